%% @doc A pool: a named set of equal workers, and the code that each of them has
%% run. The manager starts and restarts workers and keeps the table up to date;
%% requests read the table and never pass through it.
-module(py_pool).
-behaviour(gen_server).

-include("py_worker.hrl").
-include_lib("kernel/include/logger.hrl").

-export([start_link/2, start_worker/1, choose/1, reserve/1, exec/3, info/1, names/0, tables/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(TABLE, py_pools).

%% A worker that never became ready is started again after so long, doubled up
%% to the longest each time. One that had been ready is started again at once.
-define(FIRST_PAUSE_MS, 100).
-define(LONGEST_PAUSE_MS, 30000).

-record(row, {
    name :: atom() | pid(),
    defaults :: map(),
    workers = {} :: tuple(),
    %% How the last worker ended that did.
    last_exit = none :: term(),
    allow_code = true :: boolean()
}).

-record(state, {
    name :: atom() | pid(),
    opts :: py_options:pool_options(),
    dedicated :: boolean(),
    %% Every worker process: the journal's number up to which it ran, and what
    %% others need to know of it once it is ready.
    workers = #{} :: #{pid() => {starting | ready, non_neg_integer(), #worker{} | undefined}},
    failures = 0 :: non_neg_integer(),
    restarts = 0 :: non_neg_integer(),
    python = #{} :: map(),
    job = none :: none | {pid(), reference(), job()},
    jobs = queue:new() :: queue:queue(job())
}).

-type job() :: {exec, gen_server:from(), binary(), map()} | {catch_up, pid()}.

%% @doc Makes the tables.
-spec tables() -> ok.
tables() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {keypos, #row.name}, {read_concurrency, true}]),
    py_journal:tables().

%% @doc Starts a pool's manager, which returns when all workers take work.
-spec start_link(atom(), py_options:pool_options()) -> {ok, pid()} | {error, term()}.
start_link(Name, Opts) ->
    gen_server:start_link(?MODULE, {pool, Name, Opts}, [{timeout, infinity}]).

%% @doc Starts a worker of the caller's own, which ends with its Python process.
-spec start_worker(py_options:pool_options()) -> {ok, pid()} | {error, term()}.
start_worker(Opts) ->
    gen_server:start_link(?MODULE, {dedicated, Opts#{workers => 1}}, [{timeout, infinity}]).

%% @doc The worker with the fewest requests in flight, and the pool's defaults.
-spec choose(atom() | pid()) -> {ok, #worker{}, map()} | {error, py_error:reason()}.
choose(Name) ->
    case row(Name) of
        #row{workers = {}, last_exit = Exit} -> {error, {worker_exit, Exit}};
        #row{workers = {Worker}, defaults = Defaults} -> {ok, Worker, Defaults};
        #row{workers = Workers, defaults = Defaults} -> {ok, least_loaded(Workers), Defaults};
        none -> {error, {no_pool, Name}}
    end.

least_loaded(Workers) ->
    First = element(1, Workers),
    least_loaded(Workers, tuple_size(Workers), First, load(First)).

least_loaded(_Workers, 1, Best, _Load) ->
    Best;
least_loaded(Workers, N, Best, Load) ->
    Worker = element(N, Workers),
    case load(Worker) of
        Less when Less < Load -> least_loaded(Workers, N - 1, Worker, Less);
        _ -> least_loaded(Workers, N - 1, Best, Load)
    end.

load(#worker{load = Load}) ->
    atomics:get(Load, ?LOAD_REQUESTS).

%% @doc Counts a stream on a worker, unless it runs as many as it may.
-spec reserve(#worker{}) -> ok | {error, overloaded}.
reserve(#worker{load = Load, max_streams = Max}) ->
    case atomics:add_get(Load, ?LOAD_STREAMS, 1) of
        N when N > Max ->
            atomics:sub(Load, ?LOAD_STREAMS, 1),
            {error, overloaded};
        _ ->
            atomics:add(Load, ?LOAD_REQUESTS, 1)
    end.

row(Name) ->
    try ets:lookup(?TABLE, Name) of
        [Row] -> Row;
        [] -> none
    catch
        error:badarg -> none
    end.

%% @doc Runs code in `__main__' of every worker.
-spec exec(atom() | pid(), binary(), map()) -> ok | {error, py_error:reason()}.
exec(Name, Code, Opts) ->
    case manager(Name) of
        {ok, Manager} ->
            Checked = py_options:exec(Opts, defaults(Name)),
            try
                gen_server:call(Manager, {exec, Code, Checked}, infinity)
            catch
                exit:{Reason, _} -> {error, py_error:worker_exit(Reason)}
            end;
        error ->
            {error, {no_pool, Name}}
    end.

defaults(Name) ->
    case row(Name) of
        #row{defaults = Defaults} -> Defaults;
        none -> #{}
    end.

manager(Pid) when is_pid(Pid) -> {ok, Pid};
manager(Name) ->
    case row(Name) of
        none -> error;
        #row{} ->
            case [Pid || {Id, Pid, _, _} <- supervisor:which_children(py_pool_sup), Id =:= Name] of
                [Pid] when is_pid(Pid) -> {ok, Pid};
                _ -> error
            end
    end.

%% @doc The names of the pools.
-spec names() -> [atom()].
names() ->
    try
        lists:sort([Name || Name <- ets:select(?TABLE, [{#row{name = '$1', _ = '_'}, [], ['$1']}]), is_atom(Name)])
    catch
        error:badarg -> []
    end.

%% @doc The state of a pool.
-spec info(atom() | pid()) -> map() | {error, py_error:reason()}.
info(Name) ->
    case manager(Name) of
        {ok, Manager} ->
            {State, Workers} = gen_server:call(Manager, info, infinity),
            State#{workers => [worker_info(Worker) || Worker <- Workers]};
        error ->
            {error, {no_pool, Name}}
    end.

worker_info(Worker = #worker{pid = Pid, load = Load}) ->
    Counters =
        case py_call:stats(Worker, 1000) of
            {ok, Stats} -> Stats;
            %% Stuck in C code with the interpreter lock held, or gone.
            {error, Reason} -> #{error => Reason}
        end,
    Streams = atomics:get(Load, ?LOAD_STREAMS),
    Requests = atomics:get(Load, ?LOAD_REQUESTS),
    Counters#{pid => Pid, streams => Streams, calls => max(0, Requests - Streams)}.

%%% gen_server callbacks.

-spec init(term()) -> {ok, #state{}} | {stop, term()}.
init({pool, Name, Opts}) ->
    %% A row that is there is of a manager that was killed: whoever uses the
    %% pool must find it again, even if Python is missing for the moment.
    IsRestart = row(Name) =/= none,
    init(Name, Opts, false, IsRestart);
init({dedicated, Opts}) ->
    init(self(), Opts, true, false).

init(Name, Opts, IsDedicated, IsRestart) ->
    process_flag(trap_exit, true),
    ets:insert(?TABLE, #row{name = Name, defaults = defaults_of(Opts)}),
    case py_venv:prepare(Opts) of
        ok ->
            start_all(#state{name = Name, opts = Opts, dedicated = IsDedicated}, IsRestart);
        {error, Reason} when not IsRestart ->
            forget(Name),
            {stop, {shutdown, Reason}};
        {error, Reason} ->
            {ok, failed(Reason, #state{name = Name, opts = Opts, dedicated = IsDedicated})}
    end.

defaults_of(Opts) ->
    maps:with([binaries, traceback, window, window_bytes], Opts).

start_all(State = #state{opts = #{workers := N}}, IsRestart) ->
    Started = lists:foldl(fun(_, S) -> start_one(S) end, State, lists:seq(1, N)),
    case IsRestart of
        true -> {ok, Started};
        false -> await_all(Started)
    end.

%% The first start of a pool succeeds when every worker is ready, and fails
%% with the first that is not.
await_all(State = #state{workers = Workers, name = Name}) ->
    case [Pid || {Pid, {starting, _, _}} <- maps:to_list(Workers)] of
        [] ->
            {ok, State};
        _ ->
            receive
                {py_worker, Pid, {ready, Info, Worker}} ->
                    await_all(ready(Pid, Info, Worker, State));
                {'EXIT', Pid, Reason} when is_map_key(Pid, Workers) ->
                    [exit(Other, shutdown) || Other <- maps:keys(Workers), Other =/= Pid],
                    forget(Name),
                    {stop, {shutdown, start_failure(Reason)}};
                {'EXIT', _Parent, Reason} ->
                    forget(Name),
                    {stop, Reason}
            end
    end.

start_failure({shutdown, Reason}) -> Reason;
start_failure(Reason) -> Reason.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {noreply, #state{}} | {reply, term(), #state{}}.
handle_call({exec, Code, Opts}, From, State) ->
    {noreply, next_job(State#state{jobs = queue:in({exec, From, Code, Opts}, State#state.jobs)})};
handle_call(info, _From, State = #state{name = Name, opts = Opts, workers = Workers}) ->
    #row{last_exit = LastExit} = row(Name),
    Info = #{
        pool => Name,
        size => maps:get(workers, Opts),
        restarts => State#state.restarts,
        failures => State#state.failures,
        last_exit => LastExit,
        python => State#state.python,
        journal => py_journal:length(Name)
    },
    {reply, {Info, [Worker || {ready, _, Worker} <- maps:values(Workers)]}, State};
handle_call(_Other, _From, State) ->
    {reply, {error, unknown}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Other, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({py_worker, Pid, {ready, Info, Worker}}, State) ->
    {noreply, ready(Pid, Info, Worker, State)};
handle_info({'EXIT', Pid, Reason}, State = #state{workers = Workers}) when is_map_key(Pid, Workers) ->
    exited(Pid, Reason, State);
handle_info({'EXIT', _Parent, Reason}, State) ->
    {stop, Reason, State};
handle_info({'DOWN', Monitor, process, Pid, Result}, State = #state{job = {Pid, Monitor, Job}}) ->
    {noreply, next_job(job_done(Job, Result, State#state{job = none}))};
handle_info(start_worker, State = #state{opts = Opts, workers = Workers}) ->
    case maps:size(Workers) < maps:get(workers, Opts) andalso py_venv:prepare(Opts) of
        ok -> {noreply, start_one(State)};
        false -> {noreply, State};
        {error, Reason} -> {noreply, failed(Reason, State)}
    end;
handle_info(_Other, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{name = Name, workers = Workers}) ->
    forget(Name),
    Monitors = [{Pid, monitor(process, Pid)} || Pid <- maps:keys(Workers)],
    [exit(Pid, shutdown) || {Pid, _} <- Monitors],
    [
        receive
            {'DOWN', Monitor, process, Pid, _} -> ok
        end
     || {Pid, Monitor} <- Monitors
    ],
    ok.

forget(Name) ->
    ets:delete(?TABLE, Name),
    py_journal:forget(Name).

%%% Workers.

start_one(State = #state{name = Name, opts = Opts, workers = Workers}) ->
    {Number, Journal} = py_journal:read(Name),
    {ok, Pid} = py_worker:start_link(Opts, settings(Opts, Journal)),
    State#state{workers = Workers#{Pid => {starting, Number, undefined}}}.

settings(Opts = #{preload := Preload, allow := Allow}, Journal) ->
    %% Keys are binaries, and so is the atom for None: `none' itself would arrive
    %% as None.
    #{
        <<"none">> => atom_to_binary(maps:get(none, Opts)),
        <<"max_threads">> => maps:get(max_threads, Opts),
        <<"memory_limit">> => maps:get(memory_limit, Opts),
        <<"interrupt_after">> => maps:get(interrupt_after, Opts),
        <<"preload">> => [py_call:code(text(Item)) || Item <- Preload],
        <<"allow">> => allow(Allow),
        <<"journal">> => Journal
    }.

allow(all) -> all;
allow(Allowed) -> [allowed(Item) || Item <- Allowed].

allowed({Module, Function}) -> {py_call:code(text(Module)), py_call:code(text(Function))};
allowed(Module) -> py_call:code(text(Module)).

text(Atom) when is_atom(Atom) -> atom_to_binary(Atom);
text(Text) -> Text.

%% A worker is in the table when it has run all that the others have.
ready(Pid, Info, Worker, State = #state{workers = Workers, name = Name, job = Job}) ->
    {starting, Number, _} = maps:get(Pid, Workers),
    State1 = State#state{
        workers = Workers#{Pid => {ready, Number, Worker}}, python = Info, failures = 0
    },
    py_log:ready(Name, Info),
    case Job =:= none andalso Number =:= py_journal:last(Name) of
        true ->
            publish(none, State1);
        false ->
            next_job(State1#state{jobs = queue:in({catch_up, Pid}, State1#state.jobs)})
    end.

publish(LastExit, State = #state{name = Name, opts = Opts, workers = Workers}) ->
    Last = py_journal:last(Name),
    Ready = [Worker || {ready, Number, Worker} <- maps:values(Workers), Number =:= Last],
    Previous =
        case {LastExit, row(Name)} of
            {none, #row{last_exit = Exit}} -> Exit;
            _ -> LastExit
        end,
    ets:insert(?TABLE, #row{
        name = Name,
        defaults = defaults_of(Opts),
        workers = list_to_tuple(Ready),
        last_exit = Previous
    }),
    State.

exited(Pid, Reason, State = #state{workers = Workers, dedicated = IsDedicated}) ->
    {worker_exit, Status} = py_error:worker_exit(Reason),
    {Was, _, _} = maps:get(Pid, Workers),
    State1 = publish(Status, State#state{workers = maps:remove(Pid, Workers)}),
    case {IsDedicated, Was} of
        {true, _} ->
            {stop, {shutdown, {worker_exit, Status}}, State1};
        {false, ready} ->
            ?LOG_WARNING(
                #{text => "a Python worker ended and is restarted", pool => State#state.name, status => Status},
                #{domain => ?DOMAIN}
            ),
            self() ! start_worker,
            {noreply, State1#state{restarts = State#state.restarts + 1}};
        {false, starting} ->
            {noreply, failed(start_failure(Reason), State1)}
    end.

failed(Reason, State = #state{name = Name, failures = Failures}) ->
    Pause = min(?LONGEST_PAUSE_MS, ?FIRST_PAUSE_MS bsl min(Failures, 20)),
    ?LOG_ERROR(
        #{
            text => "a Python worker cannot start",
            pool => Name,
            reason => py_error:format_error(Reason),
            next_try_ms => Pause
        },
        #{domain => ?DOMAIN}
    ),
    erlang:send_after(Pause, self(), start_worker),
    [Row] = ets:lookup(?TABLE, Name),
    ets:insert(?TABLE, Row#row{last_exit = Reason}),
    State#state{failures = Failures + 1}.

%%% Jobs: code that workers run, one after another, so that all run the same in
%%% the same order.

next_job(State = #state{job = none, jobs = Jobs}) ->
    case queue:out(Jobs) of
        {empty, _} -> State;
        {{value, Job}, Rest} -> start_job(Job, State#state{jobs = Rest})
    end;
next_job(State) ->
    State.

start_job(Job = {exec, From, Code, Opts}, State = #state{name = Name, workers = Workers}) ->
    #{replay := Replay, timeout := Timeout} = Opts,
    case [Worker || {ready, _, Worker} <- maps:values(Workers)] of
        [] ->
            #row{last_exit = Exit} = row(Name),
            gen_server:reply(From, {error, {worker_exit, Exit}}),
            next_job(State);
        Ready ->
            Replay andalso py_journal:add(Name, Code),
            run_job(Job, fun() -> exec_all(Ready, Code, Opts, Timeout) end, State)
    end;
start_job(Job = {catch_up, Pid}, State = #state{name = Name, workers = Workers}) ->
    case Workers of
        #{Pid := {ready, Number, Worker}} ->
            run_job(Job, fun() -> catch_up(Worker, Name, Number) end, State);
        #{} ->
            next_job(State)
    end.

run_job(Job, Fun, State) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({result, Fun()}) end),
    State#state{job = {Pid, Monitor, Job}}.

exec_all(Workers, Code, Opts, Timeout) ->
    Monitors = [
        spawn_monitor(fun() -> exit({result, py_call:exec(Worker, Code, Opts, Timeout)}) end)
     || Worker <- Workers
    ],
    Results = [
        receive
            {'DOWN', Monitor, process, Pid, {result, Result}} -> Result
        end
     || {Pid, Monitor} <- Monitors
    ],
    case [Error || Error = {error, _} <- Results] of
        [] -> ok;
        [Error | _] -> Error
    end.

catch_up(Worker, Name, Number) ->
    Flags = #{binaries => str, traceback => true},
    lists:foreach(
        fun({_, Code}) ->
            case py_call:exec(Worker, Code, Flags, infinity) of
                ok -> ok;
                {error, Reason} -> py_log:replay_failed(Name, Reason)
            end
        end,
        py_journal:since(Name, Number)
    ).

job_done({exec, From, Code, Opts}, {result, Result}, State = #state{name = Name}) ->
    Result =:= ok orelse (maps:get(replay, Opts) andalso py_journal:remove(Name, Code)),
    gen_server:reply(From, Result),
    caught_up(State, py_journal:last(Name));
job_done({catch_up, _}, _Result, State = #state{name = Name}) ->
    caught_up(State, py_journal:last(Name));
job_done({exec, From, _, _}, Reason, State) ->
    gen_server:reply(From, {error, py_error:worker_exit(Reason)}),
    State.

%% Workers that wait for a job of their own are behind until it has run.
caught_up(State = #state{workers = Workers, jobs = Jobs}, Last) ->
    Behind = [Pid || {catch_up, Pid} <- queue:to_list(Jobs)],
    Update = fun
        (Pid, {ready, Number, Worker}) ->
            case lists:member(Pid, Behind) of
                true -> {ready, Number, Worker};
                false -> {ready, Last, Worker}
            end;
        (_Pid, Starting) ->
            Starting
    end,
    publish(none, State#state{workers = maps:map(Update, Workers)}).
