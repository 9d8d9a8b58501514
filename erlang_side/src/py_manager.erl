%% @doc A pool's manager: it starts the workers, starts others where they end,
%% and has all of them run the same code in the same order. It tells the rest of
%% the node by the pool's row, see py_pool.
%%
%% Restarts are paced here and not by a supervisor: a broken environment must
%% not use up anybody's restart intensity.
-module(py_manager).
-behaviour(gen_server).

-include("py_worker.hrl").
-include_lib("kernel/include/logger.hrl").

-export([start_link/2, start_worker/2, stop_worker/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
%% Called by spawn_monitor/3.
-export([answer/1]).

%% A worker that never became ready is started again after so long, doubled up
%% to the longest each time. Smaller numbers cost starts in vain, larger ones
%% time once the environment is mended.
-define(FIRST_PAUSE_MS, 100).
-define(LONGEST_PAUSE_MS, 30000).

%% A worker that ends within so long of being ready counts as one that cannot
%% start, after the first time; any other is replaced at once. A larger number
%% makes a pool under fire slow to heal, a smaller one lets one that dies of its
%% own preloaded code use a core for nothing.
-define(QUICK_DEATH_MS, 100).

-record(slot, {
    %% How many starts before this one were in vain.
    attempt :: non_neg_integer(),
    %% The journal's number up to which it ran.
    number :: non_neg_integer(),
    %% What others need to know of it, once it is ready, and when that was.
    worker = starting :: starting | #worker{},
    since = 0 :: integer()
}).

-record(state, {
    name :: py_pool:name(),
    opts :: py_options:pool_options(),
    dedicated :: boolean(),
    %% Who started a dedicated worker without a link.
    starter = none :: pid() | none,
    workers = #{} :: #{pid() => #slot{}},
    %% Why there would be no worker, if there is none.
    reason = {worker_exit, starting} :: py_error:reason(),
    failures = 0 :: non_neg_integer(),
    restarts = 0 :: non_neg_integer(),
    python = #{} :: map(),
    job = none :: none | {pid(), reference(), job()},
    jobs = queue:new() :: queue:queue(job())
}).

-type job() :: {exec, gen_server:from(), binary(), map()} | {catch_up, pid()}.

%% @doc Starts a pool's manager, which returns when all workers take work.
-spec start_link(atom(), py_options:pool_options()) -> {ok, pid()} | {error, term()}.
start_link(Name, Opts) ->
    gen_server:start_link(?MODULE, {pool, Name, Opts}, [{timeout, infinity}]).

%% @doc Starts a worker of the caller's own, which ends with its Python process and
%% with the caller.
-spec start_worker(py_options:pool_options(), link | monitor) ->
    {ok, pid()} | {ok, {pid(), reference()}} | {error, term()}.
start_worker(Opts, How) ->
    case py_pool:is_running() of
        true -> start_worker(How, Opts#{workers => 1}, [{timeout, infinity}]);
        false -> {error, {not_started, erlang_python}}
    end.

start_worker(link, Opts, StartOpts) ->
    started(gen_server:start_link(?MODULE, {dedicated, Opts, none}, StartOpts));
start_worker(monitor, Opts, StartOpts) ->
    started(gen_server:start_monitor(?MODULE, {dedicated, Opts, self()}, StartOpts)).

started({error, Reason}) -> {error, start_failure(Reason)};
started(Started) -> Started.

%% @doc Stops a worker of one's own.
-spec stop_worker(pid()) -> ok.
stop_worker(Pid) ->
    try
        gen_server:stop(Pid)
    catch
        %% It has ended.
        exit:_ -> ok
    end.

%%% gen_server callbacks.

-spec init(term()) -> {ok, #state{}} | {stop, term()}.
init({pool, Name, Opts}) ->
    %% A row that is there is of a manager that was killed: whoever uses the
    %% pool must find it again, even if Python is missing for the moment.
    init(#state{name = Name, opts = Opts, dedicated = false}, py_pool:is_known(Name));
init({dedicated, Opts, Starter}) ->
    %% A link would end it with the starter; a monitor must be of its own making.
    is_pid(Starter) andalso monitor(process, Starter),
    init(#state{name = self(), opts = Opts, dedicated = true, starter = Starter}, false).

init(State = #state{opts = Opts}, IsRestart) ->
    process_flag(trap_exit, true),
    _ = publish(State),
    Slots = lists:seq(1, maps:get(workers, Opts)),
    case {py_venv:prepare(Opts), IsRestart} of
        {ok, false} ->
            await_all(lists:foldl(fun(_, S) -> start_one(0, S) end, State, Slots));
        {ok, true} ->
            {ok, lists:foldl(fun(_, S) -> start_one(0, S) end, State, Slots)};
        {{error, Reason}, false} ->
            give_up(Reason, State);
        {{error, Reason}, true} ->
            {ok, lists:foldl(fun(_, S) -> failed(0, Reason, S) end, State, Slots)}
    end.

%% The first start of a pool succeeds when every worker is ready, and fails
%% with the first that is not.
await_all(State = #state{workers = Workers}) ->
    %% A supervisor, or the process that the worker is for: proc_lib(3).
    Ancestors = [ancestor(Ancestor) || Ancestor <- get('$ancestors')],
    case [starting || #slot{worker = starting} <- maps:values(Workers)] of
        [] ->
            {ok, State};
        _ ->
            receive
                {py_worker, Pid, {ready, Info, Worker}} ->
                    await_all(ready(Pid, Info, Worker, State));
                {'EXIT', Pid, Reason} when is_map_key(Pid, Workers) ->
                    stop_workers(maps:remove(Pid, Workers)),
                    give_up(start_failure(Reason), State);
                {'EXIT', Parent, Reason} when Parent =:= hd(Ancestors) ->
                    stop_workers(Workers),
                    give_up(Reason, State)
            end
    end.

ancestor(Name) when is_atom(Name) -> whereis(Name);
ancestor(Pid) -> Pid.

give_up(Reason, #state{name = Name}) ->
    py_pool:forget(Name),
    {stop, {shutdown, Reason}}.

start_failure({shutdown, Reason}) -> Reason;
start_failure(Reason) -> Reason.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {noreply, #state{}} | {reply, term(), #state{}}.
handle_call({exec, _, _}, _From, State = #state{opts = #{allow := Allow}}) when Allow =/= all ->
    %% Python refuses it as well; here it is kept out of the journal, which is what
    %% a worker that starts meanwhile would run.
    {reply, {error, not_allowed}, State};
handle_call({exec, Code, Opts}, From, State) ->
    {noreply, next_job(State#state{jobs = queue:in({exec, From, Code, Opts}, State#state.jobs)})};
handle_call(info, _From, State = #state{name = Name, opts = Opts}) ->
    Info = #{
        pool => Name,
        size => maps:get(workers, Opts),
        restarts => State#state.restarts,
        failures => State#state.failures,
        last_exit => State#state.reason,
        python => State#state.python,
        journal => py_journal:length(Name)
    },
    {reply, {Info, ready_workers(State)}, State};
handle_call(_Other, _From, State) ->
    {reply, {error, unknown}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Other, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({py_worker, Pid, {ready, Info, Worker}}, State = #state{workers = Workers}) when
    is_map_key(Pid, Workers)
->
    {noreply, ready(Pid, Info, Worker, State)};
handle_info({'EXIT', Pid, Reason}, State = #state{workers = Workers}) when is_map_key(Pid, Workers) ->
    exited(Pid, Reason, State);
handle_info({'DOWN', Monitor, process, Pid, Result}, State = #state{job = {Pid, Monitor, Job}}) ->
    {noreply, next_job(job_done(Job, Result, State#state{job = none}))};
handle_info({'DOWN', _, process, Starter, _}, State = #state{starter = Starter}) ->
    {stop, normal, State};
handle_info({start_worker, Attempt}, State = #state{opts = Opts}) ->
    case py_venv:prepare(Opts) of
        ok -> {noreply, start_one(Attempt, State)};
        {error, Reason} -> {noreply, failed(Attempt, Reason, State)}
    end;
handle_info(_Other, State) ->
    {noreply, State}.

%% A pool that is stopped is forgotten by whoever stops it; one whose manager
%% or supervisor failed is started again and finds what it was.
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{name = Name, workers = Workers, dedicated = IsDedicated}) ->
    py_pool:vacate(Name, self()),
    stop_workers(Workers),
    IsDedicated andalso py_pool:forget(Name),
    ok.

stop_workers(Workers) ->
    Monitors = [{Pid, monitor(process, Pid)} || Pid <- maps:keys(Workers)],
    [exit(Pid, shutdown) || {Pid, _} <- Monitors],
    [
        receive
            {'DOWN', Monitor, process, Pid, _} -> ok
        end
     || {Pid, Monitor} <- Monitors
    ],
    ok.

%%% Workers.

start_one(Attempt, State = #state{name = Name, opts = Opts, workers = Workers}) ->
    {Number, Journal} = py_journal:read(Name),
    {ok, Pid} = py_worker:start_link(Opts, settings(Opts, Journal)),
    State#state{workers = Workers#{Pid => #slot{attempt = Attempt, number = Number}}}.

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

%% A worker is in the row when it has run all that the others have.
ready(Pid, Info, Worker, State = #state{workers = Workers, name = Name, job = Job}) ->
    Slot = #slot{number = Number} = maps:get(Pid, Workers),
    Ready = Slot#slot{worker = Worker, since = now_ms()},
    State1 = State#state{workers = Workers#{Pid := Ready}, python = Info, failures = 0},
    py_log:ready(Name, Info),
    case Job =:= none andalso Number =:= py_journal:last(Name) of
        true -> publish(State1);
        false -> next_job(State1#state{jobs = queue:in({catch_up, Pid}, State1#state.jobs)})
    end.

publish(State = #state{name = Name, opts = Opts, workers = Workers, reason = Reason}) ->
    Last = py_journal:last(Name),
    UpToDate = [W || #slot{worker = W = #worker{}, number = N} <- maps:values(Workers), N =:= Last],
    py_pool:publish(Name, self(), Opts, UpToDate, Reason),
    State.

ready_workers(#state{workers = Workers}) ->
    [Worker || #slot{worker = Worker = #worker{}} <- maps:values(Workers)].

exited(Pid, Reason, State = #state{dedicated = IsDedicated}) ->
    Exit = {worker_exit, Status} = py_error:worker_exit(Reason),
    {#slot{worker = Was, attempt = Attempt, since = Since}, Rest} =
        maps:take(Pid, State#state.workers),
    State1 = State#state{workers = Rest},
    case Was of
        starting when not IsDedicated ->
            {noreply, failed(Attempt, start_failure(Reason), State1)};
        _ when IsDedicated ->
            {stop, {shutdown, Exit}, State1#state{reason = Exit}};
        _ ->
            ?LOG_WARNING(
                #{text => "a Python worker ended and is restarted", pool => State#state.name, status => Status},
                #{domain => ?DOMAIN}
            ),
            IsQuick = now_ms() - Since < ?QUICK_DEATH_MS,
            _ = restart_later(IsQuick, Attempt),
            {noreply, publish(State1#state{restarts = State#state.restarts + 1, reason = Exit})}
    end.

restart_later(false, _Attempt) -> self() ! {start_worker, 0};
restart_later(true, 0) -> self() ! {start_worker, 1};
restart_later(true, Attempt) -> erlang:send_after(pause(Attempt - 1), self(), {start_worker, Attempt + 1}).

failed(Attempt, Reason, State = #state{name = Name, failures = Failures}) ->
    Pause = pause(Attempt),
    ?LOG_ERROR(
        #{
            text => "a Python worker cannot start",
            pool => Name,
            reason => py_error:format_error(Reason),
            next_try_ms => Pause
        },
        #{domain => ?DOMAIN}
    ),
    _ = erlang:send_after(Pause, self(), {start_worker, Attempt + 1}),
    publish(State#state{failures = Failures + 1, reason = Reason}).

pause(Attempt) ->
    min(?LONGEST_PAUSE_MS, ?FIRST_PAUSE_MS bsl min(Attempt, 20)).

now_ms() ->
    erlang:monotonic_time(millisecond).

%%% Jobs: code that workers run, one after another, so that all run the same in
%%% the same order.

next_job(State = #state{job = none, jobs = Jobs}) ->
    case queue:out(Jobs) of
        {empty, _} -> State;
        {{value, Job}, Rest} -> start_job(Job, State#state{jobs = Rest})
    end;
next_job(State) ->
    State.

start_job(Job = {exec, From, Code, Opts}, State = #state{name = Name}) ->
    #{replay := Replay, timeout := Timeout} = Opts,
    case ready_workers(State) of
        [] ->
            gen_server:reply(From, {error, State#state.reason}),
            next_job(State);
        Ready ->
            Replay andalso py_journal:add(Name, Code),
            run_job(Job, fun() -> exec_all(Ready, Code, Opts, Timeout) end, State)
    end;
start_job(Job = {catch_up, Pid}, State = #state{name = Name, workers = Workers}) ->
    case Workers of
        #{Pid := #slot{number = Number, worker = Worker}} ->
            run_job(Job, fun() -> catch_up(Worker, Name, Number) end, State);
        #{} ->
            next_job(State)
    end.

run_job(Job, Fun, State) ->
    {Pid, Monitor} = spawn_monitor(?MODULE, answer, [Fun]),
    State#state{job = {Pid, Monitor, Job}}.

%% @private A job's process answers by how it exits.
-spec answer(fun(() -> term())) -> no_return().
answer(Fun) ->
    exit({result, Fun()}).

exec_all(Workers, Code, Opts, Timeout) ->
    Monitors = [
        spawn_monitor(?MODULE, answer, [fun() -> py_call:exec(Worker, Code, Opts, Timeout) end])
     || Worker <- Workers
    ],
    Results = [
        receive
            {'DOWN', Monitor, process, Pid, {result, Result}} -> Result
        end
     || {Pid, Monitor} <- Monitors
    ],
    result(lists:usort(Results)).

%% Where it ran in some workers and others ended meanwhile, it ran: those that
%% take their place run it from the journal.
result([ok]) ->
    ok;
result(Results) ->
    IsOk = lists:member(ok, Results),
    case [Error || Error = {error, Reason} <- Results, not (IsOk andalso is_exit(Reason))] of
        [] -> ok;
        [Error | _] -> Error
    end.

is_exit({worker_exit, _}) -> true;
is_exit(_) -> false.

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
    Update = fun(Pid, Slot = #slot{worker = Worker}) ->
        case Worker =:= starting orelse lists:member(Pid, Behind) of
            true -> Slot;
            false -> Slot#slot{number = Last}
        end
    end,
    publish(State#state{workers = maps:map(Update, Workers)}).
