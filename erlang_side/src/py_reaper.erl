%% @doc Ends every Python process that outlives its worker. The port is closed when
%% a worker ends, however it ends, and Python exits when it reads that; one that is
%% stuck does not, and is killed here after a while.
%%
%% The supervisor starts this before the pools and stops it after them, so that
%% an application that has stopped, or a node that halts by `init:stop', has
%% left no Python process behind.
-module(py_reaper).
-behaviour(gen_server).

-export([start_link/0, tables/0, adopt/1, is_running/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(TABLE, py_processes).

%% A Python process whose port was closed has this time to close its generators
%% before it is killed. A larger number lets slow clean-up finish, a smaller one
%% leaves less behind when a node stops in a hurry.
-define(GRACE_MS, 500).

%% How often a process that is to exit is checked. A larger number makes the
%% application's stop longer, a smaller one costs more checks.
-define(CHECK_MS, 10).

-record(state, {
    %% Those that run, by the monitor of their worker.
    running = #{} :: #{reference() => {pid(), py_os:process()}},
    %% Those whose port is closed, and until when they may take to exit.
    leaving = #{} :: #{pid() => {py_os:process(), integer()}}
}).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Makes the table of processes; a reaper that is restarted finds them there.
-spec tables() -> ok.
tables() ->
    ?TABLE = ets:new(?TABLE, [named_table, public]),
    ok.

%% @doc Whether there is somebody to adopt processes: the application runs.
-spec is_running() -> boolean().
is_running() ->
    ets:whereis(?TABLE) =/= undefined.

%% @doc The calling worker's Python process: it must not outlive the caller.
-spec adopt(py_os:process() | undefined) -> ok.
adopt(undefined) ->
    ok;
adopt(Process) ->
    ets:insert(?TABLE, {self(), Process}),
    gen_server:cast(?MODULE, {adopt, self(), Process}).

%%% gen_server callbacks.

-spec init([]) -> {ok, #state{}}.
init([]) ->
    process_flag(trap_exit, true),
    Known = ets:tab2list(?TABLE),
    {ok, lists:foldl(fun({Worker, Process}, S) -> watch(Worker, Process, S) end, #state{}, Known)}.

watch(Worker, Process, State = #state{running = Running}) ->
    Monitor = monitor(process, Worker),
    State#state{running = Running#{Monitor => {Worker, Process}}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(_Other, _From, State) ->
    {reply, {error, unknown}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({adopt, Worker, Process}, State) ->
    {noreply, watch(Worker, Process, State)};
handle_cast(_Other, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', Monitor, process, _, _}, State = #state{running = Running}) ->
    case maps:take(Monitor, Running) of
        {{Worker, Process}, Rest} ->
            {noreply, check(leave(Worker, Process, State#state{running = Rest}))};
        error ->
            {noreply, State}
    end;
handle_info(check, State) ->
    {noreply, check(State)};
handle_info(_Other, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, State = #state{running = Running}) ->
    Leave = fun({Worker, Process}, S) -> leave(Worker, Process, S) end,
    wait(lists:foldl(Leave, State#state{running = #{}}, maps:values(Running))).

leave(Worker, Process, State = #state{leaving = Leaving}) ->
    Until = erlang:monotonic_time(millisecond) + ?GRACE_MS,
    State#state{leaving = Leaving#{Worker => {Process, Until}}}.

check(State) ->
    Next = #state{leaving = Leaving} = kill_late(State),
    map_size(Leaving) > 0 andalso erlang:send_after(?CHECK_MS, self(), check),
    Next.

wait(State) ->
    case kill_late(State) of
        #state{leaving = Leaving} when map_size(Leaving) =:= 0 ->
            ok;
        Next ->
            timer:sleep(?CHECK_MS),
            wait(Next)
    end.

%% Forgets those that are gone. Those that are late are killed, and stay known
%% until they are gone, too.
kill_late(State = #state{leaving = Leaving}) ->
    Now = erlang:monotonic_time(millisecond),
    Alive = maps:filter(fun(_, {Process, _}) -> py_os:is_alive(Process) end, Leaving),
    [ets:delete(?TABLE, Worker) || Worker <- maps:keys(maps:without(maps:keys(Alive), Leaving))],
    Late = maps:filter(fun(_, {_, Until}) -> Now >= Until end, Alive),
    py_os:kill([Process || {Process, _} <- maps:values(Late)]),
    Again = maps:map(fun(_, {Process, _}) -> {Process, Now + ?GRACE_MS} end, Late),
    State#state{leaving = maps:merge(Alive, Again)}.
