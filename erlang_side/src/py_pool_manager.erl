%% @doc A pool's manager: it starts the workers, starts others where they end,
%% and has all of them run the same code in the same order. The rest of
%% the node finds them in the pool's row, see py_pool.
%%
%% Restarts are paced here and not by a supervisor: a broken environment must
%% not use up anybody's restart intensity.
%% @hidden
-module(py_pool_manager).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/2, start_link_ready/2, start_dedicated/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, format_status/1]).

%% A worker that never became ready is started again after this pause, doubled each
%% time up to the longest. Smaller numbers cost starts that fail again, larger ones
%% time once the environment is mended.
-define(FIRST_PAUSE_MS, 100).
-define(LONGEST_PAUSE_MS, 30000).

%% A worker that ends within this time of being ready counts as one that cannot
%% start, after the first time; any other is replaced at once. A larger number
%% makes a pool under fire slow to heal, a smaller one lets one that dies of its
%% own preloaded code use a core for nothing.
-define(QUICK_DEATH_MS, 100).

%% The process of the cluster's groups is restarted in a fraction of this.
-define(SHOW_AGAIN_MS, 100).

%% The most reasons of ends that are counted by themselves; a further one counts as `other'.
-define(MAX_EXITS, 20).

%% How often it is checked whether a pool that is stopped has ended what it runs.
-define(DRAIN_POLL_MS, 20).

-record(state, {
    name :: py_pool:name(),
    opts :: py_options:pool_options(),
    %% Whether it is a worker of one's own, and, of pools, whether py_pool_sup is its supervisor.
    dedicated :: boolean(),
    is_ours = false :: boolean(),
    %% Who started a dedicated worker without a link.
    starter = none :: pid() | none,
    %% The first start succeeds when every worker is ready, and fails with the first that
    %% is not. A pool that ran once goes on trying.
    phase = starting :: starting | started | {failed, py_error:reason()},
    %% Who waits for the end of the first start, and whether they print its progress.
    waiting = #{} :: py_first_start:waiting(),
    %% What makes the virtual environment, and the starts that wait for it, by their attempt.
    maker = none :: none | {pid(), reference()},
    held = [] :: [non_neg_integer()],
    workers = #{} :: py_slots:slots(),
    %% The error of requests while there is no worker.
    reason = {worker_exit, starting} :: py_error:reason(),
    failures = 0 :: non_neg_integer(),
    restarts = 0 :: non_neg_integer(),
    %% How often workers ended, by the reason or the limit.
    exits = #{} :: #{term() => pos_integer()},
    replacing = py_replacing:new() :: py_replacing:replacing(),
    python = #{} :: py_pool_info:python_info(),
    %% Nothing new is taken: the rest of the node sees it in the row, see py_pool.
    draining = false :: boolean(),
    %% What other nodes see of it, see py_cluster, and the process by which they do.
    shown = none :: py_cluster:shown(),
    group_monitor = none :: none | reference(),
    jobs :: py_exec_queue:jobs()
}).

%% @doc Starts a pool's manager, which returns at once: its supervisor must not wait for
%% Python. Whoever wants to know how the start ends calls {@link py_first_start:await/1}.
-spec start_link(atom(), py_sealed:key()) -> {ok, pid()} | {error, term()}.
start_link(Name, Key) ->
    gen_server:start_link(?MODULE, {pool, Name, py_sealed:open(Key), true}, []).

%% @doc Starts a pool's manager for a supervisor of the user's, and returns when all workers
%% take work, or when the supervisor itself is to end.
-spec start_link_ready(atom(), py_options:pool_options()) -> {ok, pid()} | {error, term()}.
start_link_ready(Name, Opts) ->
    case gen_server:start_link(?MODULE, {pool, Name, Opts, false}, []) of
        {ok, Pid} ->
            case py_first_start:await_supervised(Pid) of
                ok -> {ok, Pid};
                {_, Reason} -> undo_start(Name, Pid, Reason)
            end;
        Error ->
            Error
    end.

undo_start(Name, Pid, Reason) ->
    Monitor = monitor(process, Pid),
    unlink(Pid),
    exit(Pid, shutdown),
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end,
    receive
        {'EXIT', Pid, _} -> ok
    after 0 -> ok
    end,
    %% Its row is left if it was killed.
    py_pool:forget(Name, Pid),
    {error, Reason}.

%% @doc Starts the manager of a worker of one's own, and returns when it takes work.
-spec start_dedicated(link | monitor | Starter :: pid(), py_options:pool_options()) ->
    {ok, pid()} | {ok, {pid(), reference()}} | {error, term()}.
start_dedicated(link, Opts) ->
    gen_server:start_link(?MODULE, {dedicated, Opts, none}, [{timeout, infinity}]);
start_dedicated(monitor, Opts) ->
    gen_server:start_monitor(?MODULE, {dedicated, Opts, self()}, [{timeout, infinity}]);
start_dedicated(Starter, Opts) ->
    gen_server:start(?MODULE, {dedicated, Opts, Starter}, [{timeout, infinity}]).

%%% gen_server callbacks.

-spec init(term()) -> {ok, #state{}} | {stop, term()}.
init({pool, Name, Opts, IsOurs}) ->
    claim(#state{name = Name, opts = Opts, dedicated = false, is_ours = IsOurs, jobs = py_exec_queue:new(Name)});
init({dedicated, Opts, Starter}) ->
    %% A link would end it with the starter; a monitor must be of its own making.
    is_pid(Starter) andalso monitor(process, Starter),
    Jobs = py_exec_queue:new(self()),
    claim(#state{name = self(), opts = Opts, dedicated = true, starter = Starter, jobs = Jobs}).

claim(State = #state{name = Name, opts = Opts, is_ours = IsOurs, reason = Reason}) ->
    process_flag(trap_exit, true),
    py_log:describe(manager, #{pool => Name}),
    case py_pool:claim(Name, Opts, {py_first_start:parent(), IsOurs}, Reason) of
        new -> start(State, starting);
        %% Even if Python is missing for the moment.
        restarted ->
            start(State#state{draining = py_pool:is_draining(Name)}, started);
        {error, AlreadyStarted} -> {stop, AlreadyStarted}
    end.

start(State = #state{opts = Opts}, Phase) ->
    Slots = lists:seq(1, maps:get(workers, Opts)),
    case start_or_hold([0 || _ <- Slots], State#state{phase = Phase}) of
        Starting = #state{dedicated = true} -> await_worker(Starting);
        Starting -> {ok, Starting}
    end.

%% A worker of one's own is there when its start returns. Its process is handled here as
%% it is later, by handle_info/2.
await_worker(State = #state{phase = starting}) ->
    %% The process that the worker is for, or its supervisor: proc_lib(3).
    Parent = py_first_start:parent(),
    receive
        {'EXIT', Parent, Reason} -> not_started(Reason, State);
        Message when element(1, Message) =:= py_worker; element(1, Message) =:= 'EXIT';
                     element(1, Message) =:= 'DOWN'; element(1, Message) =:= venv;
                     element(1, Message) =:= not_started ->
            case handle_info(Message, State) of
                {noreply, NewState} -> await_worker(NewState);
                {stop, {shutdown, {start_failed, Reason}}, NewState} -> not_started({shutdown, Reason}, NewState);
                {stop, Reason, NewState} -> not_started(Reason, NewState)
            end
    end;
await_worker(State) ->
    {ok, State}.

not_started(Reason, State) ->
    ok = terminate(Reason, State),
    {stop, Reason}.

%% A pool whose first start failed ends. Its supervisor has it as `transient', and does not
%% start it again.
give_up(Reason, State = #state{waiting = Waiting, name = Name}) ->
    map_size(Waiting) =:= 0 andalso py_log:start_failed(Name, Reason),
    {stop, {shutdown, {start_failed, Reason}}, State#state{phase = {failed, Reason}}}.

start_failure({shutdown, Reason}) -> Reason;
start_failure(Reason) -> Reason.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {noreply, #state{}} | {reply, term(), #state{}}.
handle_call({exec, _, _}, _From, State = #state{opts = #{allow := Allow}}) when Allow =/= all ->
    %% Python refuses it as well; here it is kept out of the journal, which is what
    %% a worker that starts meanwhile would run.
    {reply, {error, not_allowed}, State};
handle_call({exec, _, _}, _From, State = #state{draining = true}) ->
    {reply, {error, draining}, State};
handle_call({exec, Code, Opts}, From, State = #state{jobs = Jobs}) ->
    Wait = maps:get(worker_wait, State#state.opts),
    {noreply, next_job(State#state{jobs = py_exec_queue:exec(From, Code, Opts, Wait, Jobs)})};
handle_call(restart_workers, From, State = #state{workers = Workers, replacing = Replacing}) ->
    {noreply, replace(State#state{replacing = py_replacing:restart(From, Workers, Replacing)})};
handle_call(drain, _From, State) ->
    NewState = publish(State#state{draining = true}),
    {reply, {ok, under_way(NewState)}, NewState};
handle_call(under_way, _From, State) ->
    {reply, {ok, under_way(State)}, State};
handle_call(resume, _From, State) ->
    NewState = publish(State#state{draining = false}),
    {reply, {ok, under_way(NewState)}, NewState};
handle_call(_Other, _From, State) ->
    {reply, {error, unknown}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({await_start, Pid, Alias, Prints}, State = #state{phase = starting, waiting = Waiting}) ->
    {noreply, State#state{waiting = py_first_start:add(Pid, Alias, Prints, Waiting)}};
handle_cast({await_start, _Pid, Alias, _Prints}, State) ->
    Alias ! {Alias, started},
    {noreply, State};
handle_cast(_Other, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({py_worker, Pid, {ready, Info, Worker}}, State = #state{workers = Workers}) when
    is_map_key(Pid, Workers)
->
    {noreply, announce(ready(Pid, Info, Worker, State))};
handle_info({py_worker, Pid, leaving}, State = #state{workers = Workers}) when is_map_key(Pid, Workers) ->
    {noreply, leaving(Pid, State)};
handle_info({py_worker, Pid, {done, Why}}, State = #state{workers = Workers, name = Name}) when
    is_map_key(Pid, Workers)
->
    py_log:recycled(Name, Pid, Why),
    Counted = #state{replacing = Replacing} = count_exit(exit_name(Why), State),
    {noreply, replace(Counted#state{replacing = py_replacing:add(Pid, Workers, Replacing)})};
handle_info({leave, Pid, Since, Deadline}, State = #state{workers = Workers}) ->
    ok = py_replacing:leave(Pid, Since, Deadline, Workers),
    {noreply, State};
handle_info({'EXIT', Pid, Reason}, State = #state{workers = Workers}) when is_map_key(Pid, Workers) ->
    exited(Pid, Reason, State);
handle_info({'DOWN', _, process, Starter, _}, State = #state{starter = Starter}) ->
    {stop, normal, State};
handle_info({venv, Pid, Line}, State = #state{maker = {Pid, _}, name = Name, waiting = Waiting}) ->
    py_first_start:progress(Line, Waiting) =:= none andalso py_log:venv_progress(Name, Line),
    {noreply, State};
handle_info({'DOWN', Monitor, process, _, _}, State = #state{group_monitor = Monitor}) ->
    _ = erlang:send_after(?SHOW_AGAIN_MS, self(), show_again),
    {noreply, State#state{group_monitor = none, shown = none}};
handle_info(show_again, State) ->
    {noreply, publish(State)};
handle_info({'DOWN', Monitor, process, Pid, Result}, State = #state{maker = {Pid, Monitor}}) ->
    made(Result, State#state{maker = none});
handle_info({'DOWN', Monitor, process, _, _}, State = #state{waiting = Waiting}) when is_map_key(Monitor, Waiting) ->
    {noreply, State#state{waiting = py_first_start:remove(Monitor, Waiting)}};
handle_info({'DOWN', Monitor, process, _, Reason}, State = #state{jobs = Jobs}) ->
    case py_exec_queue:done(Monitor, Reason, Jobs) of
        {ran, Rest} -> {noreply, next_job(replace(publish(State#state{jobs = Rest})))};
        {caught_up, Pid, Number, Rest} -> {noreply, caught_up(Pid, Number, State#state{jobs = Rest})};
        unrelated -> {noreply, State}
    end;
handle_info(exec_written, State = #state{jobs = Jobs}) ->
    {noreply, State#state{jobs = py_exec_queue:written(Jobs)}};
handle_info(exec_late, State = #state{reason = Why, jobs = Jobs}) ->
    {noreply, State#state{jobs = py_exec_queue:expire(py_slots:ready(State#state.workers), Why, Jobs)}};
handle_info({not_started, _Attempt, Reason}, State = #state{phase = starting}) ->
    give_up(Reason, State);
handle_info({not_started, Attempt, Reason}, State) ->
    {noreply, failed(Attempt, Reason, State)};
handle_info({start_worker, Attempt}, State) ->
    %% More may have been asked for than are missing: what was to be replaced may have died.
    case missing(State) of
        0 -> {noreply, publish(State#state{failures = 0})};
        _ -> {noreply, start_or_hold([Attempt], State)}
    end;
handle_info(_Other, State) ->
    {noreply, State}.

%% The pool's variables are nobody else's to see, nor the code of py:exec.
-spec format_status(gen_server:format_status()) -> gen_server:format_status().
format_status(Status) ->
    py_status:without_values(Status).

%% py_pool_sup forgets a pool that it stops; one whose manager or supervisor
%% failed is restarted and finds its row and its journal. A supervisor of the user's
%% knows nothing of that.
-spec terminate(term(), #state{}) -> ok.
terminate(Reason, State = #state{name = Name, workers = Workers, dedicated = IsDedicated, is_ours = IsOurs, phase = Phase}) ->
    event([pool, stop], #{}, #{reason => Reason}, State),
    stop_maker(State),
    IsForeign = not (IsDedicated orelse IsOurs),
    IsForeign andalso py_pool:is_running() andalso drain(State),
    py_pool:vacate(Name, self()),
    stop_workers(Workers),
    IsForeign andalso py_reaper:await(self()),
    %% There is nothing to go on with where nothing has run.
    (IsDedicated orelse Phase =/= started orelse (IsForeign andalso is_orderly(Reason))) andalso
        py_pool:forget(Name),
    py_status:without_mail(Reason).

is_orderly({shutdown, _}) -> true;
is_orderly(Reason) -> lists:member(Reason, [normal, shutdown, killed]).

%% A pool of another supervisor is stopped with it, before this application drains its own.
drain(State) ->
    case application:get_env(erlang_python, drain_timeout, 0) of
        0 -> ok;
        Timeout -> await_idle(publish(State#state{draining = true}), py_clock:deadline(Timeout))
    end.

await_idle(State = #state{workers = Workers}, Deadline) ->
    Alive = maps:filter(fun(Pid, _) -> is_process_alive(Pid) end, Workers),
    case under_way(State#state{workers = Alive}) > 0 andalso py_clock:left(Deadline) > 0 of
        true ->
            receive
            after ?DRAIN_POLL_MS -> await_idle(State, Deadline)
            end;
        false ->
            ok
    end.

stop_maker(#state{maker = none}) ->
    ok;
stop_maker(#state{maker = {Pid, Monitor}}) ->
    exit(Pid, kill),
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end.

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

%% Workers start at once where their environment is there; otherwise a process makes it,
%% and they wait for its end, but the manager does not.
start_or_hold(Attempts, State = #state{maker = {_, _}, held = Held}) ->
    State#state{held = Attempts ++ Held};
start_or_hold(Attempts, State = #state{opts = Opts, phase = Phase}) ->
    case py_venv:is_needed(Phase, Opts) of
        false ->
            lists:foldl(fun start_one/2, State, Attempts);
        true ->
            try
                State#state{maker = py_venv:start_maker(Opts), held = Attempts}
            catch
                error:system_limit ->
                    lists:foreach(fun(Attempt) -> self() ! {not_started, Attempt, system_limit} end, Attempts),
                    State
            end
    end.

made({made, ok}, State = #state{held = Held}) ->
    {noreply, lists:foldl(fun start_one/2, State#state{held = []}, Held)};
made({made, {error, Reason}}, State = #state{phase = starting}) ->
    give_up(Reason, State);
made({made, {error, Reason}}, State = #state{held = Held}) ->
    Failed = fun(Attempt, S) -> failed(Attempt, Reason, S) end,
    {noreply, lists:foldl(Failed, State#state{held = []}, Held)};
made(Crash, State) ->
    Why = unicode:characters_to_binary(io_lib:format("~tp", [Crash])),
    made({made, {error, {cannot_start, Why}}}, State).

%% The first start ends when every worker is ready.
announce(State = #state{phase = starting, workers = Workers, waiting = Waiting}) ->
    case py_slots:is_starting(Workers) of
        false ->
            NewState = State#state{phase = started, waiting = py_first_start:started(Waiting)},
            event([pool, start], #{system_time => erlang:system_time()}, #{}, State),
            NewState;
        true ->
            State
    end;
announce(State) ->
    State.

start_one(Attempt, State = #state{name = Name, opts = Opts, workers = Workers, jobs = Jobs}) ->
    {Number, Journal} = py_exec_queue:journal(Jobs),
    try py_worker:start_link(Name, Opts, py_settings:settings(Opts, Journal)) of
        {ok, Pid} ->
            State#state{workers = py_slots:add(Pid, Attempt, Number, Workers)}
    catch
        error:system_limit ->
            self() ! {not_started, Attempt, system_limit},
            State
    end.

%% A worker is in the row when it has run all that the others have.
ready(Pid, Info, Worker, State = #state{workers = Workers, name = Name, jobs = Jobs}) ->
    {Number, Took, Ready} = py_slots:ready(Pid, Worker, py_workers:about(Pid), Workers),
    State1 = State#state{workers = Ready, python = Info, failures = 0},
    py_log:ready(Name, Pid, Info),
    event([worker, start], #{duration => native(Took)}, #{worker => Pid, python => Info}, State),
    case py_journal:last(Name) of
        Number -> next_job(replace(publish(State1)));
        _ -> publish(State1#state{jobs = py_exec_queue:catch_up(Pid, Worker, Number, Jobs)})
    end.

%% Those that run it now are not behind.
next_job(State = #state{name = Name, workers = Workers, reason = Reason, jobs = Jobs}) ->
    {Started, NewJobs} = py_exec_queue:next(py_slots:ready(Workers), Reason, Jobs),
    State#state{jobs = NewJobs, workers = py_slots:run(Started, py_journal:last(Name), Workers)}.

%% A worker has run the journal, to which more may have been added since.
caught_up(Pid, Number, State = #state{name = Name, workers = Workers, jobs = Jobs}) ->
    case {py_slots:find(Pid, Workers), py_journal:last(Name)} of
        {{ready, _, _}, Number} ->
            next_job(replace(publish(State#state{workers = py_slots:run([Pid], Number, Workers)})));
        {{ready, Worker, Before}, _} ->
            From =
                case Number of
                    failed -> Before;
                    _ -> Number
                end,
            State#state{jobs = py_exec_queue:catch_up(Pid, Worker, From, Jobs)};
        _ ->
            next_job(State)
    end.

publish(State = #state{name = Name, workers = Workers, reason = Reason}) ->
    UpToDate = py_slots:up_to_date(py_journal:last(Name), Workers),
    py_pool:publish(Name, UpToDate, Reason, State#state.draining),
    py_pool:publish_about(Name, about(State)),
    show(UpToDate, State).

%% What the cluster sees of a pool that is offered to it.
show(UpToDate, State = #state{opts = #{cluster := true}, dedicated = false, name = Name, shown = Was}) ->
    Shown = py_cluster:show(Name, Was, should_show(UpToDate, State)),
    watch_groups(State#state{shown = Shown});
show(_UpToDate, State) ->
    State.

should_show(_UpToDate, #state{draining = true}) -> draining;
should_show([], _State) -> none;
should_show(_UpToDate, _State) -> offered.

%% The groups end with their process, and the next one knows nothing of them.
watch_groups(State = #state{group_monitor = none}) ->
    State#state{group_monitor = py_cluster:monitor()};
watch_groups(State) ->
    State.

%% How many requests run, in workers that leave, too, and how much code has yet to run in
%% all of them. What another node asked for is under way until that has its end.
under_way(#state{name = Name, workers = Workers, jobs = Jobs}) ->
    max(py_slots:requests(Workers), py_relays:number(Name)) + py_exec_queue:execs(Jobs).

about(State) ->
    #{
        restarts => State#state.restarts,
        exits => State#state.exits,
        failures => State#state.failures,
        last_exit => last_exit(State),
        python => State#state.python
    }.

%% Nothing has ended while the reason is still the first one.
last_exit(#state{reason = {worker_exit, starting}}) -> none;
last_exit(#state{reason = Reason}) -> Reason.

exited(Pid, Reason, State = #state{phase = starting, workers = Workers}) ->
    give_up(start_failure(Reason), State#state{workers = maps:remove(Pid, Workers)});
exited(Pid, Reason, State = #state{workers = Workers}) ->
    case py_pool:is_running() of
        true ->
            ended(Pid, Reason, State);
        false ->
            %% The top supervisor has ended, and nothing is started again.
            Exit = py_error:worker_exit(Reason),
            {stop, {shutdown, Exit}, State#state{workers = maps:remove(Pid, Workers), reason = Exit}}
    end.

ended(Pid, Reason, State = #state{dedicated = IsDedicated}) ->
    Exit = {worker_exit, Status} = py_error:worker_exit(Reason),
    {Ended = #{was := Was, attempt := Attempt, age := Age, about := About}, Rest} = py_slots:take(Pid, State#state.workers),
    State1 = State#state{workers = Rest},
    ended_event(Pid, Ended, Exit, State),
    py_workers:forget(Pid),
    py_request:sweep(),
    py_async_call:sweep(),
    case Was of
        starting when not IsDedicated ->
            {noreply, failed(Attempt, start_failure(Reason), State1)};
        _ when IsDedicated ->
            {stop, {shutdown, Exit}, State1#state{reason = Exit}};
        recycled ->
            {noreply, publish(State1)};
        leaving ->
            {noreply, publish(State1#state{reason = Exit})};
        ready ->
            ?LOG_WARNING(
                #{text => "a Python worker ended and is restarted", pool => State#state.name, status => Status},
                maps:merge(py_log:meta(State#state.name, Pid), About)
            ),
            _ = restart_later(Age < ?QUICK_DEATH_MS, Attempt),
            State2 = count_exit(Status, State1#state{restarts = State#state.restarts + 1, reason = Exit}),
            {noreply, replace(publish(State2))}
    end.

%% Telemetry's events.

event(Name, Measurements, Meta, #state{name = Pool}) ->
    Now = erlang:monotonic_time(),
    py_telemetry:event(Name, Measurements#{monotonic_time => Now}, Meta#{pool => Pool}).

ended_event(Pid, #{was := Was, age := Age}, Reason, State) ->
    Measurements = #{duration => native(Age)},
    case Was =:= leaving orelse Was =:= recycled of
        true ->
            event([worker, stop], Measurements, #{worker => Pid, reason => Reason}, State);
        false ->
            Meta = #{worker => Pid, kind => exit, reason => Reason, stacktrace => []},
            event([worker, exception], Measurements, Meta, State)
    end.

native(Ms) ->
    erlang:convert_time_unit(Ms, millisecond, native).

%% Bounded, since a worker may be ended for any term.
count_exit(Why, State = #state{exits = Exits}) ->
    Key =
        case is_map_key(Why, Exits) orelse map_size(Exits) < ?MAX_EXITS of
            true -> Why;
            false -> other
        end,
    State#state{exits = maps:update_with(Key, fun(N) -> N + 1 end, 1, Exits)}.

exit_name({reload, _File}) -> reload;
exit_name(Limit) -> Limit.

%% A signal asked it to leave: another replaces it, while it ends what it runs.
leaving(Pid, State = #state{name = Name, workers = Workers, dedicated = IsDedicated}) ->
    ?LOG_NOTICE(#{text => "a signal asked a Python worker to leave", pool => Name}, py_log:meta(Name, Pid)),
    py_workers:forget(Pid),
    IsDedicated orelse (self() ! {start_worker, 0}),
    publish(State#state{workers = py_slots:leaving(Pid, signal, Workers)}).

%%% Replacement, see py_replacing.

%% How many are to be started: one more than the pool has while one is to leave.
missing(#state{workers = Workers, replacing = Replacing, opts = #{workers := Size}, held = Held}) ->
    Wanted =
        case py_replacing:is_any(Workers, Replacing) of
            false -> Size;
            true -> Size + 1
        end,
    max(0, Wanted - py_slots:staying(Workers) - length(Held)).

replace(State = #state{dedicated = true}) ->
    State;
replace(State = #state{phase = starting}) ->
    State;
replace(State = #state{name = Name, workers = Workers, opts = #{workers := Size}}) ->
    case py_replacing:next(py_journal:last(Name), Size, Workers, State#state.replacing) of
        {leave, Pid, Replacing} ->
            replace(begin_leave(Pid, State#state{replacing = Replacing}));
        {need, Replacing} ->
            NewState = State#state{replacing = Replacing},
            case missing(NewState) > 0 andalso not is_start_due(NewState) of
                true -> start_or_hold([0], NewState);
                false -> NewState
            end;
        {none, Replacing} ->
            State#state{replacing = Replacing}
    end.

%% Whether one that has failed, or has died, is to be started by a message that will come.
is_start_due(#state{failures = Failures, workers = Workers, opts = #{workers := Size}}) ->
    Failures > 0 orelse py_slots:staying(Workers) < Size.

%% It is out of the row, and ends what it runs.
begin_leave(Pid, State = #state{workers = Workers}) ->
    py_workers:forget(Pid),
    NewState = publish(State#state{workers = py_slots:leaving(Pid, recycled, Workers)}),
    ok = py_replacing:leave(Pid, NewState#state.workers),
    NewState.

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
        py_log:meta(Name)
    ),
    _ = erlang:send_after(Pause, self(), {start_worker, Attempt + 1}),
    NewState = publish(State#state{failures = Failures + 1, reason = Reason}),
    NewState#state{replacing = py_replacing:failed({error, Reason}, State#state.replacing)}.

pause(Attempt) ->
    min(?LONGEST_PAUSE_MS, ?FIRST_PAUSE_MS bsl min(Attempt, 20)).
