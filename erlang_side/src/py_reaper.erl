%% @doc Ends every Python process that outlives its worker. The port is closed when
%% a worker ends, however it ends, and Python exits when it reads that; one that is
%% stuck does not, and is killed here after a while.
%%
%% The supervisor starts this before the pools and stops it after them, so that
%% an application that has stopped, or a node that halts by `init:stop', has
%% left no Python process behind. All that this needs to end a process is open from the start: the node
%% may be short of files, ports or processes just then.
%% @hidden
-module(py_reaper).
-behaviour(gen_server).

-export([start_link/0, tables/0, adopt/2, identify/2, allow/1, await/1, is_gone/1, is_running/0, signal/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(TABLE, py_processes).

%% A Python process whose port was closed without an orderly stop has this time to
%% close its generators before it is killed. A larger number lets slow clean-up
%% finish, a smaller one leaves less behind when a node stops in a hurry.
-define(GRACE_MS, 500).

%% How often a process that is to exit is checked. A larger number makes the
%% application's stop longer, a smaller one costs more checks.
-define(CHECK_MS, 10).

%% A row of the table, which a reaper that is restarted finds there.
-record(process, {
    worker :: pid(),
    manager :: pid(),
    %% What the port started, and the Python process itself, which is another one where
    %% the interpreter is a wrapper that does not `exec'. It leads a process group.
    started :: py_os:process(),
    python = undefined :: py_os:process() | undefined,
    children = leave :: kill | leave,
    %% What it may take to exit once its port is closed, in ms.
    grace = ?GRACE_MS :: timeout()
}).

-record(state, {
    %% Those that run, by the monitor of their worker.
    running = #{} :: #{reference() => pid()},
    %% Those whose port is closed, and until when they may take to exit.
    leaving = #{} :: #{pid() => infinity | integer()},
    %% What the table holds. It ends with the top supervisor, and before this.
    processes = #{} :: #{Worker :: pid() => #process{}},
    shell :: py_signal:shell(),
    %% Who waits until no process of a manager is left.
    waiting = [] :: [{gen_server:from(), pid()}]
}).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Makes the table of processes; a reaper that is restarted finds them there.
-spec tables() -> ok.
tables() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {keypos, #process.worker}]),
    ok.

%% @doc Whether there is somebody to adopt processes: the application runs.
-spec is_running() -> boolean().
is_running() ->
    ets:whereis(?TABLE) =/= undefined.

%% @doc The calling worker's Python process: it must not outlive the caller.
-spec adopt(Manager :: pid(), py_os:process() | undefined) -> ok.
adopt(_Manager, undefined) ->
    ok;
adopt(Manager, Process) ->
    Row = #process{worker = self(), manager = Manager, started = Process},
    insert(Row),
    gen_server:cast(?MODULE, {adopt, Row}).

insert(Row) ->
    try
        ets:insert(?TABLE, Row)
    catch
        %% The top supervisor was killed, and the table with it.
        error:badarg -> true
    end.

change(Changes) ->
    gen_server:cast(?MODULE, {change, self(), Changes}),
    try
        ets:update_element(?TABLE, self(), Changes)
    catch
        error:badarg -> false
    end.

%% @doc Which process Python itself is, for the calling worker, and whether what it has
%% started in its process group ends with it.
-spec identify(pos_integer(), kill | leave) -> ok.
identify(OsPid, Children) ->
    _ = change([{#process.python, py_os:of_pid(OsPid)}, {#process.children, Children}]),
    ok.

%% @doc The calling worker's process was asked to leave, and may take so long.
-spec allow(timeout()) -> boolean().
allow(Ms) ->
    change([{#process.grace, Ms}]).

%% @doc Returns when no Python process of a manager that has ended is left.
-spec await(Manager :: pid()) -> ok.
await(Manager) ->
    try
        gen_server:call(?MODULE, {await, Manager}, infinity)
    catch
        %% The application stops, and waits for them itself.
        exit:_ -> ok
    end.

%% @doc Whether a process is known to be gone. Asked where its state is unknown, see py_os.
-spec is_gone(py_os:process()) -> boolean().
is_gone(Process) ->
    try
        gen_server:call(?MODULE, {is_gone, Process})
    catch
        exit:_ -> false
    end.

%% @doc Sends a signal by its number, through the shell that is open for that.
-spec signal(OsPid :: pos_integer(), Signal :: pos_integer()) -> ok.
signal(OsPid, Signal) ->
    try
        gen_server:call(?MODULE, {signal, OsPid, Signal})
    catch
        exit:_ -> ok
    end.

%%% gen_server callbacks.

-spec init([]) -> {ok, #state{}}.
init([]) ->
    process_flag(trap_exit, true),
    {ok, bequeath(lists:foldl(fun watch/2, #state{shell = py_signal:open()}, ets:tab2list(?TABLE)))}.

%% One that was just started has it from the table, and from the message as well.
watch(#process{worker = Worker}, State = #state{processes = Processes}) when is_map_key(Worker, Processes) ->
    State;
watch(Row = #process{worker = Worker}, State = #state{running = Running, processes = Processes}) ->
    #process{started = Started, python = Python} = Row,
    State#state{
        running = Running#{monitor(process, Worker) => Worker},
        processes = Processes#{Worker => Row#process{started = opened(Started), python = opened(Python)}}
    }.

opened(undefined) -> undefined;
opened(Process) -> py_os:open(Process).

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {noreply, #state{}} | {reply, term(), #state{}}.
handle_call({await, Manager}, From, State = #state{waiting = Waiting}) ->
    {noreply, answer(State#state{waiting = [{From, Manager} | Waiting]})};
handle_call({is_gone, Process}, _From, State = #state{shell = Shell}) ->
    {IsGone, NewShell} = is_gone(Process, Shell),
    {reply, IsGone, State#state{shell = NewShell}};
handle_call({signal, OsPid, Signal}, _From, State = #state{shell = Shell}) ->
    {_, NewShell} = py_signal:send(Signal, [OsPid], Shell),
    {reply, ok, State#state{shell = NewShell}};
handle_call(_Other, _From, State) ->
    {reply, {error, unknown}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({adopt, Row}, State) ->
    {noreply, watch(Row, State)};
handle_cast({change, Worker, Changes}, State = #state{processes = Processes}) ->
    case Processes of
        #{Worker := Row} -> {noreply, bequeath(State#state{processes = Processes#{Worker := changed(Changes, Row)}})};
        #{} -> {noreply, State}
    end;
handle_cast(_Other, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', Monitor, process, _, _}, State = #state{running = Running}) ->
    case maps:take(Monitor, Running) of
        {Worker, Rest} -> {noreply, check(leave(Worker, State#state{running = Rest}))};
        error -> {noreply, State}
    end;
handle_info(check, State) ->
    {noreply, check(State)};
handle_info(_Other, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, State = #state{running = Running}) ->
    wait(lists:foldl(fun leave/2, State#state{running = #{}}, maps:values(Running))).

changed(Changes, Row) ->
    lists:foldl(fun change/2, Row, Changes).

%% One that was just started has it from the table as well. What is open stays so until it is closed.
change({#process.python, _}, Row = #process{python = Known}) when Known =/= undefined -> Row;
change({#process.python, Python}, Row) -> Row#process{python = py_os:open(Python)};
change({Position, Value}, Row) -> setelement(Position, Row, Value).

%% A worker that was killed has left its row, and its manager may have been killed with it.
leave(Worker, State = #state{leaving = Leaving, processes = Processes}) ->
    py_workers:forget(Worker),
    #{Worker := #process{grace = Grace}} = Processes,
    State#state{leaving = Leaving#{Worker => py_clock:deadline(Grace)}}.

check(State) ->
    Next = #state{leaving = Leaving} = bequeath(end_late(State)),
    map_size(Leaving) > 0 andalso erlang:send_after(?CHECK_MS, self(), check),
    answer(Next).

wait(State) ->
    case bequeath(end_late(State)) of
        #state{leaving = Leaving} when map_size(Leaving) =:= 0 ->
            ok;
        Next ->
            timer:sleep(?CHECK_MS),
            wait(Next)
    end.

answer(State = #state{waiting = Waiting, processes = Processes}) ->
    Managers = [Manager || #process{manager = Manager} <- maps:values(Processes)],
    {Still, Done} = lists:partition(fun({_, Manager}) -> lists:member(Manager, Managers) end, Waiting),
    lists:foreach(fun({From, _}) -> gen_server:reply(From, ok) end, Done),
    State#state{waiting = Still}.

%% Forgets those that are gone, after what they left in their process group. Those that
%% are late are killed, and stay known until they are gone, too.
end_late(State = #state{leaving = Leaving}) ->
    Now = py_clock:now_ms(),
    maps:fold(fun(Worker, Until, S) -> end_late(Worker, Until, Now, S) end, State, Leaving).

end_late(Worker, Until, Now, State = #state{leaving = Leaving, processes = Processes, shell = Shell}) ->
    #{Worker := Process = #process{started = Started, python = Python}} = Processes,
    case are_gone([Started, Python], Shell) of
        {true, NewShell} ->
            lists:foreach(fun py_os:close/1, [Started, Python]),
            forget(Worker),
            State#state{
                leaving = maps:remove(Worker, Leaving),
                processes = maps:remove(Worker, Processes),
                shell = end_children(Process, NewShell)
            };
        {false, NewShell} when Now >= Until ->
            %% An atom is more than any number, so `infinity' never comes here.
            Pids = [py_os:pid(P) || P <- [Started, Python], P =/= undefined],
            {_, Last} = py_signal:send(9, Pids, NewShell),
            State#state{leaving = Leaving#{Worker := Now + ?GRACE_MS}, shell = Last};
        {false, NewShell} ->
            State#state{shell = NewShell}
    end.

are_gone(Processes, Shell) ->
    lists:foldl(
        fun
            (Process, {true, S}) -> is_gone(Process, S);
            (_, Result) -> Result
        end,
        {true, Shell},
        Processes
    ).

%% One of which nothing is known is there still.
is_gone(Process, Shell) ->
    case py_os:state(Process) of
        gone ->
            {true, Shell};
        unknown ->
            {Answer, NewShell} = py_signal:send(0, [py_os:pid(Process)], Shell),
            {Answer =:= failed, NewShell};
        _ ->
            {false, Shell}
    end.

forget(Worker) ->
    try
        ets:delete(?TABLE, Worker)
    catch
        error:badarg -> true
    end.

%% If the node ends before this does, the shell ends what is left of them.
bequeath(State = #state{processes = Processes, shell = Shell}) ->
    Groups = [
        py_os:pid(Python)
     || #process{children = kill, python = Python} <- maps:values(Processes), Python =/= undefined
    ],
    State#state{shell = py_signal:bequeath(Groups, Shell)}.

%% As long as the group has members, no other process gets its number.
end_children(#process{children = kill, python = Python}, Shell) when Python =/= undefined ->
    {_, NewShell} = py_signal:send(9, [{group, py_os:pid(Python)}], Shell),
    NewShell;
end_children(_, Shell) ->
    Shell.
