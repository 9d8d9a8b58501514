%% @doc Ends every Python process that outlives its worker. The port is closed when
%% a worker ends, however it ends, and Python exits when it reads that; one that is
%% stuck does not, and is killed here after a while.
%%
%% The supervisor starts this before the pools and stops it after them, so that
%% an application that has stopped, or a node that halts by `init:stop', has
%% left no Python process behind.
%% @hidden
-module(py_reaper).
-behaviour(gen_server).

-export([start_link/0, tables/0, adopt/2, identify/2, allow/1, await/1, is_running/0]).
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
    ets:insert(?TABLE, #process{worker = self(), manager = Manager, started = Process}),
    gen_server:cast(?MODULE, {adopt, self()}).

%% @doc Which process Python itself is, for the calling worker, and whether what it has
%% started in its process group ends with it.
-spec identify(pos_integer() | undefined, kill | leave) -> ok.
identify(OsPid, Children) when is_integer(OsPid) ->
    Changes = [{#process.python, py_os:of_pid(OsPid)}, {#process.children, Children}],
    _ = ets:update_element(?TABLE, self(), Changes),
    ok;
identify(_, _) ->
    ok.

%% @doc The calling worker's process was asked to leave, and may take so long.
-spec allow(timeout()) -> boolean().
allow(Ms) ->
    ets:update_element(?TABLE, self(), {#process.grace, Ms}).

%% @doc Returns when no Python process of a manager that has ended is left.
-spec await(Manager :: pid()) -> ok.
await(Manager) ->
    try
        gen_server:call(?MODULE, {await, Manager}, infinity)
    catch
        %% The application stops, and waits for them itself.
        exit:_ -> ok
    end.

%%% gen_server callbacks.

-spec init([]) -> {ok, #state{}}.
init([]) ->
    process_flag(trap_exit, true),
    Known = [Worker || #process{worker = Worker} <- ets:tab2list(?TABLE)],
    {ok, lists:foldl(fun watch/2, #state{}, Known)}.

watch(Worker, State = #state{running = Running}) ->
    State#state{running = Running#{monitor(process, Worker) => Worker}}.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {noreply, #state{}} | {reply, term(), #state{}}.
handle_call({await, Manager}, From, State = #state{waiting = Waiting}) ->
    {noreply, answer(State#state{waiting = [{From, Manager} | Waiting]})};
handle_call(_Other, _From, State) ->
    {reply, {error, unknown}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({adopt, Worker}, State) ->
    {noreply, watch(Worker, State)};
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

leave(Worker, State = #state{leaving = Leaving}) ->
    case ets:lookup(?TABLE, Worker) of
        [#process{grace = Grace}] -> State#state{leaving = Leaving#{Worker => until(Grace)}};
        [] -> State
    end.

until(infinity) -> infinity;
until(Ms) -> erlang:monotonic_time(millisecond) + Ms.

check(State) ->
    Next = #state{leaving = Leaving} = end_late(State),
    map_size(Leaving) > 0 andalso erlang:send_after(?CHECK_MS, self(), check),
    answer(Next).

wait(State) ->
    case end_late(State) of
        #state{leaving = Leaving} when map_size(Leaving) =:= 0 ->
            ok;
        Next ->
            timer:sleep(?CHECK_MS),
            wait(Next)
    end.

answer(State = #state{waiting = Waiting}) ->
    Managers = [Manager || #process{manager = Manager} <- ets:tab2list(?TABLE)],
    {Still, Done} = lists:partition(fun({_, Manager}) -> lists:member(Manager, Managers) end, Waiting),
    lists:foreach(fun({From, _}) -> gen_server:reply(From, ok) end, Done),
    State#state{waiting = Still}.

%% Forgets those that are gone, after what they left in their process group. Those that
%% are late are killed, and stay known until they are gone, too.
end_late(State = #state{leaving = Leaving}) ->
    Now = erlang:monotonic_time(millisecond),
    State#state{leaving = maps:filtermap(fun(Worker, Until) -> end_late(Worker, Until, Now) end, Leaving)}.

end_late(Worker, Until, Now) ->
    [Process = #process{started = Started, python = Python}] = ets:lookup(?TABLE, Worker),
    case py_os:is_alive(Started) orelse py_os:is_alive(Python) of
        false ->
            end_children(Process),
            ets:delete(?TABLE, Worker),
            false;
        true when Now >= Until ->
            %% An atom is more than any number, so `infinity' never comes here.
            py_os:kill([P || P <- [Started, Python], P =/= undefined]),
            {true, Now + ?GRACE_MS};
        true ->
            true
    end.

end_children(#process{children = kill, python = Python}) when Python =/= undefined ->
    py_os:kill_group(Python);
end_children(_) ->
    ok.
