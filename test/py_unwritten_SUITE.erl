%% @doc Requests that meet a worker which has just ended, or is about to. What was not written to Python
%% waits for another worker, and has an error that says so if there is none; what was written runs
%% once at most.
-module(py_unwritten_SUITE).

-include_lib("stdlib/include/assert.hrl").
-include_lib("erlang_python/erlang_side/src/py_worker.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([
    a_closed_port/1,
    a_killed_worker/1,
    no_waiting/1,
    a_worker_that_had_gone/1,
    a_worker_that_is_named/1,
    a_pool_that_goes_meanwhile/1,
    a_handle/1,
    a_killed_manager/1,
    a_worker_that_takes_nothing/1,
    a_full_port_that_closes/1,
    a_channel_without_room/1,
    code_that_begins_anew/1,
    workers_are_killed_all_the_time/1
]).

-define(LONG, 20000).
-define(CALLERS, 8).
-define(KILLS, 40).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 2}}].

-spec all() -> [atom()].
all() ->
    [
        a_closed_port,
        a_killed_worker,
        no_waiting,
        a_worker_that_had_gone,
        a_worker_that_is_named,
        a_pool_that_goes_meanwhile,
        a_handle,
        a_killed_manager,
        a_worker_that_takes_nothing,
        a_full_port_that_closes,
        a_channel_without_room,
        code_that_begins_anew,
        workers_are_killed_all_the_time
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    ok = application:set_env(erlang_python, pools, #{}),
    {ok, _} = application:ensure_all_started(erlang_python),
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, none),
    [{level, Level} | Config].

-spec end_per_suite(ct_suite:ct_config()) -> term().
end_per_suite(Config) ->
    ok = logger:set_primary_config(level, proplists:get_value(level, Config)),
    _ = application:stop(erlang_python),
    application:unset_env(erlang_python, pools).

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> term().
end_per_testcase(_Case, _Config) ->
    test_leftovers:none_and_stop().

%%% One request at a time.

%% The worker is there as far as the node knows, and its port is closed.
-spec a_closed_port(ct_suite:ct_config()) -> ok.
a_closed_port(_Config) ->
    {ok, _} = py:start_pool(test, #{workers => 1}),
    lists:foreach(
        fun({Kind, Begin, Expected}) ->
            #worker{pid = Pid, port = Port} = settled(),
            true = erlang:suspend_process(Pid),
            true = port_close(Port),
            Answer = asked(Begin),
            %% It waits, for as long as the worker is all that there is.
            ?assertEqual({Kind, pending}, {Kind, answer(Answer, 50)}),
            true = erlang:resume_process(Pid),
            ?assertEqual({Kind, Expected}, {Kind, answer(Answer, ?LONG)})
        end,
        requests(#{pool => test})
    ),
    #{journal := 1} = py:info(test),
    test_workers:idle(test).

%% The same with a worker whose process is gone, of which its manager has not heard yet.
-spec a_killed_worker(ct_suite:ct_config()) -> ok.
a_killed_worker(_Config) ->
    {ok, _} = py:start_pool(test, #{workers => 1}),
    {Manager, _} = py_pool:owner(test),
    lists:foreach(
        fun({Kind, Begin, Expected}) ->
            Worker = settled(),
            ok = sys:suspend(Manager),
            ok = gone(Worker),
            Answer = asked(Begin),
            ?assertEqual({Kind, pending}, {Kind, answer(Answer, 50)}),
            ok = sys:resume(Manager),
            ?assertEqual({Kind, Expected}, {Kind, answer(Answer, ?LONG)})
        end,
        requests(#{pool => test})
    ),
    test_workers:idle(test).

%% Where nothing waits the reason is that of the worker, and never that there was no process of that name.
-spec no_waiting(ct_suite:ct_config()) -> ok.
no_waiting(_Config) ->
    {ok, _} = py:start_pool(test, #{workers => 1, worker_wait => 0}),
    {Manager, _} = py_pool:owner(test),
    {ok, Worker} = py_pool:choose(test),
    ok = sys:suspend(Manager),
    ok = gone(Worker),
    [
        ?assertEqual({Kind, {error, {worker_exit, killed}}}, {Kind, Begin()})
     || {Kind, Begin, _} <- requests(#{pool => test}), Kind =/= exec, Kind =/= stream_start
    ],
    ok = sys:resume(Manager),
    test_workers:idle(test).

%% A worker may have ended before the VM sends the signal of a monitor that a request has of it. What it has
%% ended with is the reason all the same, whether the request was written or not.
-spec a_worker_that_had_gone(ct_suite:ct_config()) -> ok.
a_worker_that_had_gone(_Config) ->
    {ok, _} = py:start_pool(test, #{workers => 1, worker_wait => 0}),
    {Manager, _} = py_pool:owner(test),
    Exits = fun(Code) -> fun(_) -> {error, _} = py:eval(Code, #{}, #{pool => test}) end end,
    Replaced = fun(Why) -> fun(#worker{pid = Pid}) -> py_port:replace(Pid, Why) end end,
    lists:foreach(
        fun({End, Status}) ->
            Worker = #worker{pid = Pid} = settled(),
            Monitor = monitor(process, Pid),
            ok = sys:suspend(Manager),
            End(Worker),
            receive
                {'DOWN', Monitor, process, Pid, _} -> ok
            end,
            %% Its port is one that takes whatever is written.
            Port = open_port({spawn_executable, "/bin/sh"}, [out, {args, ["-c", "exec cat >/dev/null"]}]),
            ok = py_pool:publish(test, [Worker#worker{port = Port}], {worker_exit, starting}, false),
            [
                ?assertEqual({Kind, {error, {worker_exit, Status}}}, {Kind, answer(asked(Begin), ?LONG)})
             || {Kind, Begin, _} <- requests(#{pool => test}), Kind =/= exec, Kind =/= stream_start
            ],
            {ok, Ref} = py:stream_start(builtins, range, [3], #{pool => test}),
            ?assertEqual({error, {worker_exit, Status}}, py:stream_next(Ref, ?LONG)),
            true = port_close(Port),
            ok = sys:resume(Manager)
        end,
        [
            {Exits("__import__('os')._exit(0)"), 0},
            {Exits("__import__('os')._exit(3)"), 3},
            {Exits("__import__('os').abort()"), {signal, 6}},
            {Replaced(unresponsive), unresponsive},
            {Replaced(exit_unknown), exit_unknown},
            %% Of this no more is known than that it has gone.
            {Replaced({failed, <<"why">>}), exit_unknown},
            {fun(#worker{pid = Pid}) -> exit(Pid, kill) end, killed}
        ]
    ),
    test_workers:idle(test).

%% No other worker may run what is for one.
-spec a_worker_that_is_named(ct_suite:ct_config()) -> ok.
a_worker_that_is_named(_Config) ->
    {ok, _} = py:start_pool(test, #{workers => 2}),
    {Manager, _} = py_pool:owner(test),
    {ok, Worker = #worker{pid = Pid}} = py_pool:choose(test),
    ok = sys:suspend(Manager),
    ok = gone(Worker),
    [
        ?assertEqual({Kind, {error, {no_pool, Pid}}}, {Kind, Begin()})
     || {Kind, Begin, _} <- requests(#{pool => Pid}), Kind =/= exec, Kind =/= stream_start
    ],
    ok = sys:resume(Manager),
    test_workers:idle(test),
    {ok, Own} = py:start_worker(#{}),
    {ok, OfOwn} = py_pool:choose(Own),
    true = unlink(Own),
    ok = sys:suspend(Own),
    ok = gone(OfOwn),
    Answers = [{Kind, asked(Begin)} || {Kind, Begin, _} <- requests(#{pool => Own}), Kind =/= exec, Kind =/= stream_start],
    [?assertEqual({Kind, pending}, {Kind, answer(Answer, 20)}) || {Kind, Answer} <- Answers],
    ok = sys:resume(Own),
    [?assertEqual({Kind, {error, {no_pool, Own}}}, {Kind, answer(Answer, ?LONG)}) || {Kind, Answer} <- Answers],
    ok.

%% Nothing waits for a worker of what has gone since the request chose one, and the reason is that it has gone.
-spec a_pool_that_goes_meanwhile(ct_suite:ct_config()) -> ok.
a_pool_that_goes_meanwhile(_Config) ->
    {ok, Own} = py:start_worker(#{}),
    {ok, #worker{pid = Pid, port = Port}} = py_pool:choose(Own),
    true = unlink(Own),
    ok = sys:suspend(Own),
    true = erlang:suspend_process(Pid),
    true = port_close(Port),
    Answers = [{Kind, asked(Begin)} || {Kind, Begin, _} <- requests(#{pool => Own}), Kind =/= exec, Kind =/= stream_start],
    %% Each has found the port closed, and waits for what the worker ends with.
    Waits = fun(Process) -> process_info(Process, current_function) =:= {current_function, {py_port, end_of, 1}} end,
    test_eventually:equal(length(Answers), fun() -> length(lists:filter(Waits, processes())) end),
    Monitors = [monitor(process, Process) || Process <- [Own, Pid]],
    exit(Own, kill),
    ok = py_pool:forget(Own),
    exit(Pid, kill),
    [
        receive
            {'DOWN', Monitor, process, _, _} -> ok
        end
     || Monitor <- Monitors
    ],
    [?assertEqual({Kind, {error, {no_pool, Own}}}, {Kind, answer(Answer, ?LONG)}) || {Kind, Answer} <- Answers],
    ok.

%% A handle says what became of the worker that had the object.
-spec a_handle(ct_suite:ct_config()) -> ok.
a_handle(_Config) ->
    {ok, _} = py:start_pool(test, #{workers => 1}),
    {ok, Handle} = py:eval("[1, 2, 3]", #{}, #{pool => test, return => handle}),
    {ok, Worker} = py_pool:choose(test),
    {Manager, _} = py_pool:owner(test),
    ok = sys:suspend(Manager),
    ok = gone(Worker),
    Killed = {error, {worker_exit, killed}},
    ?assertEqual(Killed, py:call(Handle, index, [2])),
    ?assertEqual(Killed, py:await(py:spawn_call(Handle, index, [2]))),
    ?assertEqual(Killed, py:stream(builtins, iter, [Handle])),
    ok = sys:resume(Manager),
    test_workers:idle(test).

%% Code for a pool whose manager was killed runs when there is another one.
-spec a_killed_manager(ct_suite:ct_config()) -> ok.
a_killed_manager(_Config) ->
    {ok, _} = py:start_pool(test, #{workers => 1}),
    {Manager, _} = py_pool:owner(test),
    {ok, Worker} = py_pool:choose(test),
    true = erlang:suspend_process(whereis(py_pool_sup)),
    %% What is written before its worker has ended, too, may have been handed to Python.
    ok = gone(Worker, Manager),
    Answers = [{Kind, asked(Begin), Expected} || {Kind, Begin, Expected} <- requests(#{pool => test})],
    Drain = asked(fun() -> py:drain(test, ?LONG) end),
    [?assertEqual({Kind, pending}, {Kind, answer(Answer, 20)}) || {Kind, Answer, _} <- Answers],
    ?assertEqual(pending, answer(Drain, 0)),
    unlink(Drain),
    exit(Drain, kill),
    true = erlang:resume_process(whereis(py_pool_sup)),
    [?assertEqual({Kind, Expected}, {Kind, answer(Answer, ?LONG)}) || {Kind, Answer, Expected} <- Answers],
    test_workers:idle(test).

requests(On) ->
    [
        {call, fun() -> py:call(math, sqrt, [4], #{}, On) end, {ok, 2.0}},
        {large, fun() -> py:call(builtins, len, [binary:copy(<<"x">>, 1 bsl 20)], #{}, On) end, {ok, 1 bsl 20}},
        {eval, fun() -> py:eval("1 + 1", #{}, On) end, {ok, 2}},
        {exec, fun() -> py:exec("x = 1", On) end, ok},
        {spawn_call, fun() -> py:await(py:spawn_call(math, sqrt, [4], #{}, On)) end, {ok, 2.0}},
        {stream, fun() -> py:stream(builtins, range, [3], #{}, On) end, {ok, [0, 1, 2]}},
        {stream_eval, fun() -> py:stream_eval("range(3)", #{}, On) end, {ok, [0, 1, 2]}},
        {stream_start,
            fun() ->
                {ok, Ref} = py:stream_start(builtins, range, [2], On#{demand => 1}),
                {ok, 0} = py:stream_next(Ref, ?LONG),
                ok = py:stream_demand(Ref, 5),
                [py:stream_next(Ref, ?LONG), py:stream_next(Ref, ?LONG)]
            end,
            [{ok, 1}, done]}
    ].

%% A worker that has been ready for so long that the next one starts at once.
settled() ->
    Self = self(),
    Ref = make_ref(),
    test_eventually:true(fun() ->
        #{workers := Workers} = py:info(test),
        case [Worker || #{pid := Pid, age := Age} <- Workers, Age > 200, {ok, Worker} <- [py_pool:choose(Pid)]] of
            [] -> false;
            [Worker | _] -> {Ref, Worker} =:= (Self ! {Ref, Worker})
        end
    end),
    receive
        {Ref, Worker} -> Worker
    end.

%% The process of a worker has ended, and so has its port.
gone(Worker = #worker{pid = Pid}) ->
    gone(Worker, Pid).

%% The same after another process, on which it depends, was killed.
gone(#worker{pid = Pid, port = Port}, Killed) ->
    Monitors = [monitor(process, Killed), monitor(process, Pid), monitor(port, Port)],
    exit(Killed, kill),
    [
        receive
            {'DOWN', Monitor, _, _, _} -> ok
        end
     || Monitor <- Monitors
    ],
    ok.

asked(Fun) ->
    Self = self(),
    spawn_link(fun() -> Self ! {self(), Fun()} end).

answer(Pid, Ms) ->
    receive
        {Pid, Answer} -> Answer
    after Ms -> pending
    end.

%% What is large waits for room in the port, and no longer than the request. Who starts a stream does not wait.
-spec a_worker_that_takes_nothing(ct_suite:ct_config()) -> ok.
a_worker_that_takes_nothing(_Config) ->
    {ok, _} = py:start_pool(test, #{workers => 1}),
    Late = {error, timeout},
    {Others, ok} = with_full_port(fun(Worker) ->
        Written = py_load:counts(Worker),
        On = #{pool => test, timeout => 100},
        lists:foreach(
            fun({Kind, Begin}) -> ?assertEqual({Kind, Late}, {Kind, answer(asked(Begin), ?LONG)}) end, large(On)
        ),
        Refs = large_streams(#{pool => test, timeout => 100}, 3),
        [?assertEqual(Late, py:stream_next(Ref, ?LONG)) || Ref <- Refs],
        %% Without a time of its own it waits until it is cancelled, or its owner ends.
        Waiting = large_streams(#{pool => test}, 3),
        [?assertEqual(timeout, py:stream_next(Ref, 0)) || Ref <- Waiting],
        [ok = py:stream_cancel(Ref) || Ref <- Waiting],
        [?assertEqual({error, cancelled}, py:stream_next(Ref, ?LONG)) || Ref <- Waiting],
        %% Of what was given up nothing waits to be written.
        ok = given_up(fun() -> py:spawn_call(builtins, len, [large()], #{}, #{pool => test}) end),
        ok = given_up(fun() -> large_streams(#{pool => test}, 1) end),
        ok = py:cast(builtins, len, [large()], #{}, On),
        ?assertEqual(Late, py:await(py:spawn_call(builtins, len, [large()], #{}, #{pool => test}), 50)),
        %% The requests that were written, and no others, are counted.
        test_eventually:equal(Written, fun() -> py_load:counts(Worker) end)
    end),
    [?assertEqual({ok, byte_size(large())}, answer(Other, ?LONG)) || Other <- Others],
    %% There was one terminal event of each.
    receive
        Event = {py_stream, _, _} -> error({unexpected, Event})
    after 0 -> ok
    end,
    test_workers:idle(test).

%% What waits for room in the port of a worker that dies then goes to the next one, and runs once.
-spec a_full_port_that_closes(ct_suite:ct_config()) -> ok.
a_full_port_that_closes(_Config) ->
    {ok, _} = py:start_pool(test, #{workers => 1}),
    {Others, {Answers, Refs}} = with_full_port(fun(#worker{pid = Pid}) ->
        On = #{pool => test, timeout => infinity},
        Answers = [{Kind, asked(Begin)} || {Kind, Begin} <- large(On)],
        Refs = large_streams(#{pool => test}, 2),
        [?assertEqual({Kind, pending}, {Kind, answer(Answer, 20)}) || {Kind, Answer} <- Answers],
        ok = test_workers:kill(Pid),
        {Answers, Refs}
    end),
    Size = byte_size(large()),
    [?assertMatch({error, {worker_exit, _}}, answer(Other, ?LONG)) || Other <- Others],
    [
        case {Kind, answer(Answer, ?LONG)} of
            {exec, Result} -> ?assertEqual(ok, Result);
            {handle, Result} -> ?assertMatch({ok, {py_handle, _}}, Result);
            {stream, Result} -> ?assertEqual({ok, [Size]}, Result);
            {_, Result} -> ?assertEqual({Kind, {ok, Size}}, {Kind, Result})
        end
     || {Kind, Answer} <- Answers
    ],
    [?assertEqual([{ok, <<"x">>}, done], [py:stream_next(Ref, ?LONG) || _ <- [value, last]]) || Ref <- Refs],
    test_workers:idle(test).

%% Code that no worker had begins anew, and runs once, also if it takes a while to know that: the worker that
%% replaces the one that has died is ready before, and has it neither from the journal nor by catching up.
-spec code_that_begins_anew(ct_suite:ct_config()) -> ok.
code_that_begins_anew(Config) ->
    %% It has waited for longer than there may be no worker, while there was one.
    {ok, _} = py:start_pool(test, #{workers => 1, worker_wait => 150}),
    {Manager, _} = py_pool:owner(test),
    File = filename:join(proplists:get_value(priv_dir, Config), "anew_ran"),
    Code = io_lib:format("with open(~p, 'a') as _file: _file.write('x') #~ts", [File, large()]),
    {_Others, {Job, Answer}} = with_full_port(fun(#worker{pid = Pid}) ->
        Answer = asked(fun() -> py:exec(Code, #{pool => test}) end),
        test_eventually:true(fun() -> jobs(Manager) =/= [] end),
        [Job] = jobs(Manager),
        ?assertEqual(pending, answer(Answer, 20)),
        true = erlang:suspend_process(Job),
        ok = test_workers:kill(Pid),
        test_eventually:true(fun() ->
            #{workers := Workers} = py:info(test),
            [New || #{pid := New} <- Workers, New =/= Pid] =/= []
        end),
        {Job, Answer}
    end),
    %% What the new worker may have begun it would have done by now.
    [_ = sys:get_state(Manager) || _ <- lists:seq(1, 3)],
    ?assertEqual(pending, answer(Answer, 200)),
    ?assertEqual([Job], jobs(Manager)),
    true = erlang:resume_process(Job),
    ?assertEqual(ok, answer(Answer, ?LONG)),
    test_eventually:equal({ok, 2}, fun() -> py:eval("1 + 1", #{}, #{pool => test}) end),
    ?assertEqual({ok, <<"x">>}, file:read_file(File)),
    ?assertMatch(#{journal := 1}, py:info(test)),
    test_workers:idle(test).

%% The processes that run code for a pool.
jobs(Manager) ->
    {monitors, Monitors} = process_info(Manager, monitors),
    [Pid || {process, Pid} <- Monitors, is_pid(Pid), proc_lib:initial_call(Pid) =:= {py_exec_job, enter, ['Argument__1']}].

%% A channel holds nobody up for longer than he wants where its values have no room.
-spec a_channel_without_room(ct_suite:ct_config()) -> ok.
a_channel_without_room(_Config) ->
    {ok, _} = py:start_pool(test, #{workers => 1}),
    Window = 4,
    {ok, In} = py:channel(#{window => Window, window_bytes => 1 bsl 24}),
    Read = asked(fun() -> py:eval("[len(value) for value in values]", #{values => In}, #{pool => test}) end),
    ok = py:channel_send(In, <<"first">>),
    %% It is read: there is room for a whole window again.
    test_eventually:true(fun() -> atomics_of(In) =:= Window end),
    {Others, ok} = with_full_port(fun(_Worker) ->
        [?assertEqual(ok, py:channel_send(In, large(), ?LONG)) || _ <- lists:seq(1, Window)],
        ?assertEqual({error, timeout}, answer(asked(fun() -> py:channel_send(In, large(), 50) end), ?LONG)),
        py:channel_close(In)
    end),
    [?assertEqual({ok, byte_size(large())}, answer(Other, ?LONG)) || Other <- Others],
    ?assertEqual({ok, [5 | lists:duplicate(Window, byte_size(large()))]}, answer(Read, ?LONG)),
    test_workers:idle(test).

atomics_of({py_channel, {_Pid, Available}}) ->
    atomics:get(Available, 1).

large() ->
    binary:copy(<<"x">>, 1 bsl 20).

large(On) ->
    Spawned = fun() -> py:spawn_call(builtins, len, [large()], #{}, On) end,
    [
        {call, fun() -> py:call(builtins, len, [large()], #{}, On) end},
        {eval, fun() -> py:eval("len(x)", #{x => large()}, On) end},
        {handle, fun() -> py:eval("x", #{x => large()}, On#{return => handle}) end},
        {spawn_call, fun() -> py:await(Spawned()) end},
        {stream, fun() -> py:stream_eval("[len(x)]", #{x => large()}, On) end},
        {exec, fun() -> py:exec(["x = 1 #", large()], On) end}
    ].

large_streams(Opts, N) ->
    [
        begin
            {ok, Ref} = py:stream_start(itertools, islice, [large(), 1], Opts),
            Ref
        end
     || _ <- lists:seq(1, N)
    ].

%% A process that has begun something is killed.
given_up(Fun) ->
    Self = self(),
    {Pid, Monitor} = spawn_monitor(fun() ->
        _ = Fun(),
        Self ! {self(), begun},
        receive
            never -> ok
        end
    end),
    receive
        {Pid, begun} -> exit(Pid, kill)
    end,
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end.

%% Runs something while a worker is stopped and its port has no room, and returns those that wait for what filled it.
with_full_port(Fun) ->
    Worker = #worker{pid = Pid} = settled(),
    OsPid = test_workers:os_pid(Pid),
    ok = test_os_process:stop(OsPid),
    try
        Fill = fun Fill(Others) ->
            case py_port:is_full(Worker) of
                true ->
                    Others;
                false ->
                    Before = py_load:requests(Worker),
                    Opts = #{pool => test, timeout => infinity},
                    Other = asked(fun() -> py:call(builtins, len, [large()], #{}, Opts) end),
                    test_eventually:true(fun() -> py_load:requests(Worker) > Before end),
                    Fill([Other | Others])
            end
        end,
        Others = Fill([]),
        {Others, Fun(Worker)}
    after
        os:cmd("kill -CONT " ++ OsPid)
    end.

%%% Many at once.

%% Every request has one answer, whatever ends workers meanwhile. What says that it was not started
%% has not run, and what has a result has run once.
-spec workers_are_killed_all_the_time(ct_suite:ct_config()) -> ok.
workers_are_killed_all_the_time(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "unwritten_ran"),
    {ok, _} = py:start_pool(test, #{workers => 2}),
    Code = io_lib:format(
        "import os, sys, types\n"
        "_file = os.open(~p, os.O_CREAT | os.O_APPEND | os.O_WRONLY)\n"
        "def ran(n):\n"
        "    os.write(_file, b'%d\\n' % n)\n"
        "    return n\n"
        "def ran_iter(n):\n"
        "    yield ran(n)\n"
        "sys.modules['m'] = types.SimpleNamespace(ran=ran, ran_iter=ran_iter)\n",
        [File]
    ),
    ok = py:exec(Code, #{pool => test}),
    Counter = atomics:new(1, []),
    Callers = [asked(fun() -> call(Counter, N, []) end) || N <- lists:seq(1, ?CALLERS)],
    ok = kill(?KILLS),
    [Caller ! stop || Caller <- Callers],
    Answers = maps:from_list(lists:append([answer(Caller, ?LONG) || Caller <- Callers])),
    test_workers:idle(test),
    {ok, Lines} = file:read_file(File),
    Ran = [binary_to_integer(Line) || Line <- binary:split(Lines, <<"\n">>, [global, trim])],
    %% Nothing ran twice.
    ?assertEqual(lists:sort(Ran), lists:usort(Ran)),
    HasRun = maps:from_keys(Ran, true),
    Kinds = maps:fold(
        fun(N, Answer, Counts) ->
            Kind = kind(N, Answer, maps:is_key(N, HasRun)),
            maps:update_with(Kind, fun(Count) -> Count + 1 end, 1, Counts)
        end,
        #{},
        Answers
    ),
    ct:pal("~p", [Kinds]),
    %% The other outcomes are there, too: calls were running when their workers were killed.
    ?assertMatch(#{ok := _, worker_exit := _}, Kinds),
    ok.

call(Counter, Turn, Answers) ->
    receive
        stop -> Answers
    after 0 ->
        N = atomics:add_get(Counter, 1, 1),
        call(Counter, Turn + 1, [{N, ran(Turn rem 5, N)} | Answers])
    end.

ran(0, N) -> py:call(m, ran, [N], #{}, #{pool => test});
ran(1, N) -> py:eval("ran(n)", #{n => N}, #{pool => test});
ran(2, N) -> py:await(py:spawn_call(m, ran, [N], #{}, #{pool => test}));
ran(3, N) -> one(py:stream(m, ran_iter, [N], #{}, #{pool => test}));
ran(4, N) ->
    case py:eval("ran(n)", #{n => N}, #{pool => test, return => handle}) of
        {ok, Handle} ->
            ok = py:release(Handle),
            {ok, N};
        Error ->
            Error
    end.

one({ok, [N]}) -> {ok, N};
one(Error) -> Error.

kind(N, {ok, N}, true) -> ok;
kind(_, {error, {worker_exit, Status}}, _) when Status =:= killed; Status =:= {signal, 9} -> worker_exit;
kind(_, {error, {no_worker, _}}, false) -> no_worker.

%% By turns the process of the node and that of the system.
kill(0) ->
    ok;
kill(N) ->
    #worker{pid = Pid} = settled(),
    case N rem 2 of
        0 -> exit(Pid, kill);
        1 -> ok = test_workers:kill(Pid)
    end,
    kill(N - 1).
