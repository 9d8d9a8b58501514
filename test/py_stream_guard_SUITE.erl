%% @doc Every stream has one terminal event, whichever process of the node dies: its own, the
%% one that watches it, a supervisor, by a kill, a limit of the heap or new code.
-module(py_stream_guard_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").
-import(test_stream_events, [all_events/1, each_event/1, next_values/2]).

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([
    a_stream_is_killed/1,
    a_stream_is_killed_at_any_moment/1,
    a_stream_that_is_collected_is_killed/1,
    a_stream_that_is_cancelled_is_killed/1,
    a_limit_of_the_heap/1,
    the_guard_is_killed/1,
    the_application_stops/1,
    the_top_supervisor_is_killed/1,
    a_worker_of_ones_own_ends_with_it/1,
    code_is_loaded_twice/1,
    rows_of_what_was_killed/1,
    what_waits_survives_new_code/1
]).

-define(LONG, 10000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        a_stream_is_killed,
        a_stream_is_killed_at_any_moment,
        a_stream_that_is_collected_is_killed,
        a_stream_that_is_cancelled_is_killed,
        a_limit_of_the_heap,
        the_guard_is_killed,
        the_application_stops,
        the_top_supervisor_is_killed,
        a_worker_of_ones_own_ends_with_it,
        code_is_loaded_twice,
        rows_of_what_was_killed,
        what_waits_survives_new_code
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    ok = application:set_env(erlang_python, pools, #{default => #{workers => 2}}),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> term().
end_per_suite(_Config) ->
    application:unset_env(erlang_python, pools).

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = py:exec(
        "import asyncio, itertools, time\n"
        "def idle(to=None):\n"
        "    try:\n"
        "        yield 'begun'\n"
        "        while True:\n"
        "            time.sleep(0.01)\n"
        "            if erlang.stream().cancelled: return\n"
        "    finally:\n"
        "        if to: erlang.send(to, 'closed')\n"
        "async def async_idle(to=None):\n"
        "    try:\n"
        "        yield 'begun'\n"
        "        await asyncio.sleep(1000)\n"
        "    finally:\n"
        "        if to: erlang.send(to, 'closed')\n"
        "def ticks():\n"
        "    for n in itertools.count():\n"
        "        time.sleep(0.01)\n"
        "        yield n\n"
        "async def async_ticks():\n"
        "    for n in itertools.count():\n"
        "        await asyncio.sleep(0.01)\n"
        "        yield n\n"
        "def large():\n"
        "    yield 1\n"
        "    yield list(range(1000000))\n"
        "import erlang\n"
    ),
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> term().
end_per_testcase(_Case, _Config) ->
    application:stop(erlang_python).

%% The owner gets one event, and Python ends the generator, whatever the events are.
-spec a_stream_is_killed(ct_suite:ct_config()) -> ok.
a_stream_is_killed(_Config) ->
    lists:foreach(
        fun({Generator, Opts}) ->
            {ok, Ref} = py:stream_start('__main__', Generator, [self()], Opts),
            {ok, _} = py:stream_next(Ref, ?LONG),
            exit(process(Ref), kill),
            ?assertEqual({error, {stream_exit, killed}}, py:stream_next(Ref, ?LONG)),
            receive
                <<"closed">> -> ok
            end,
            test_leftovers:none(),
            ?assertEqual(timeout, py:stream_next(Ref, 0))
        end,
        [{G, O} || G <- [idle, async_idle], O <- [#{}, #{batch => 10}, #{demand => 5}]]
    ).

%% Exactly one terminal event, and gapless values before it.
-spec a_stream_is_killed_at_any_moment(ct_suite:ct_config()) -> ok.
a_stream_is_killed_at_any_moment(_Config) ->
    Ends = lists:map(
        fun(N) ->
            {ok, Ref} = py:stream_start(builtins, range, [2000], #{window => 500}),
            Pid = process(Ref),
            Taken = next_values(N, Ref),
            exit(Pid, kill),
            {Rest, End} = all_events(Ref),
            Values = Taken ++ Rest,
            ?assertEqual(lists:seq(0, length(Values) - 1), Values),
            ?assertEqual(timeout, py:stream_next(Ref, 0)),
            ?assert(End =:= done orelse End =:= {error, {stream_exit, killed}}),
            End =:= done andalso ?assertEqual(2000, length(Values)),
            End
        end,
        [N || _ <- lists:seq(1, 5), N <- [0, 1, 2, 10, 100, 500, 1000, 1500, 1990, 1999]]
    ),
    ?assert(lists:member({error, {stream_exit, killed}}, Ends)),
    test_leftovers:none().

-spec a_stream_that_is_collected_is_killed(ct_suite:ct_config()) -> ok.
a_stream_that_is_collected_is_killed(_Config) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit(py:stream('__main__', async_idle, [])) end),
    test_eventually:true(fun() -> ets:info(py_streams, size) =:= 1 end),
    [Row] = ets:tab2list(py_streams),
    exit(element(2, Row), kill),
    receive
        {'DOWN', Monitor, process, Pid, Result} ->
            ?assertEqual({error, {stream_exit, killed}}, Result)
    end,
    test_leftovers:none().

%% A node may give every process a limit, by +hmax or at run time.
%% After a flush nothing comes, whoever sends the last event.
-spec a_stream_that_is_cancelled_is_killed(ct_suite:ct_config()) -> ok.
a_stream_that_is_cancelled_is_killed(_Config) ->
    {ok, Ref} = py:stream_start('__main__', ticks, [], #{window => 1}),
    {ok, 0} = py:stream_next(Ref, ?LONG),
    Guard = whereis(py_stream_guard),
    Process = process(Ref),
    ok = sys:suspend(Guard),
    true = erlang:suspend_process(Process),
    Test = self(),
    _ = spawn_link(fun() ->
        test_eventually:true(fun() ->
            {messages, Messages} = process_info(Process, messages),
            lists:member({py_cancel, Ref}, Messages)
        end),
        exit(Process, kill),
        test_eventually:equal(undefined, fun() -> process_info(Process, status) end),
        %% The one that cancels has heard of it, and waits for the guard.
        test_eventually:equal({messages, []}, fun() -> process_info(Test, messages) end),
        ok = sys:resume(Guard),
        Test ! resumed
    end),
    ok = py:stream_cancel(Ref, [flush]),
    receive
        resumed -> ok
    end,
    %% By now it has done what it had to do.
    _ = sys:get_state(Guard),
    ?assertEqual(timeout, py:stream_next(Ref, 0)).

-spec a_limit_of_the_heap(ct_suite:ct_config()) -> ok.
a_limit_of_the_heap(_Config) ->
    Limit = erlang:system_flag(max_heap_size, #{size => 500000, kill => true, error_logger => false}),
    try
        {ok, Ref} = py:stream_start('__main__', large, []),
        ?assertEqual([{data, 1}, {error, {stream_exit, killed}}], each_event(Ref)),
        ?assertEqual({error, {stream_exit, killed}}, py:stream('__main__', large, []))
    after
        erlang:system_flag(max_heap_size, Limit)
    end,
    test_leftovers:none().

%% One that is started again watches the streams that run.
-spec the_guard_is_killed(ct_suite:ct_config()) -> ok.
the_guard_is_killed(_Config) ->
    {ok, Ref} = py:stream_start('__main__', async_idle, []),
    {ok, _} = py:stream_next(Ref, ?LONG),
    Guard = whereis(py_stream_guard),
    exit(Guard, kill),
    test_eventually:true(fun() -> is_other(whereis(py_stream_guard), Guard) end),
    exit(process(Ref), kill),
    ?assertEqual({error, {stream_exit, killed}}, py:stream_next(Ref, ?LONG)),
    test_leftovers:none().

%% Those that their owners keep waiting get it, too.
-spec the_application_stops(ct_suite:ct_config()) -> ok.
the_application_stops(_Config) ->
    Refs = [Ref || {ok, Ref} <- [py:stream_start(itertools, count, [], #{window => 4}) || _ <- lists:seq(1, 200)]],
    [{ok, 0} = py:stream_next(Ref, ?LONG) || Ref <- Refs],
    ok = application:stop(erlang_python),
    Ends = [[E || E <- each_event(Ref), not is_data(E)] || Ref <- Refs],
    ?assertEqual([[{error, {worker_exit, stopped}}]], lists:usort(Ends)),
    ?assertEqual([], [R || R <- Refs, py:stream_next(R, 0) =/= timeout]).

-spec the_top_supervisor_is_killed(ct_suite:ct_config()) -> ok.
the_top_supervisor_is_killed(_Config) ->
    Refs = [Ref || {ok, Ref} <- [py:stream_start(itertools, count, [], #{window => 4}) || _ <- lists:seq(1, 200)]],
    [{ok, 0} = py:stream_next(Ref, ?LONG) || Ref <- Refs],
    exit(whereis(py_sup), kill),
    Ends = [[E || E <- each_event(Ref), not is_data(E)] || Ref <- Refs],
    %% The supervisor of the pools stops its workers in order, if it has the time.
    Expected = [[{error, {worker_exit, killed}}], [{error, {worker_exit, stopped}}]],
    ?assertEqual([], lists:usort(Ends) -- Expected),
    ?assertEqual([], [R || R <- Refs, py:stream_next(R, 0) =/= timeout]),
    test_eventually:true(fun() ->
        [] =:= [A || {A, _, _} <- application:which_applications(), A =:= erlang_python]
    end),
    {ok, _} = application:ensure_all_started(erlang_python),
    ?assertMatch({ok, _}, py:version()).

%% Its supervisor is the caller, and the first that it learns is that a table has gone.
-spec a_worker_of_ones_own_ends_with_it(ct_suite:ct_config()) -> ok.
a_worker_of_ones_own_ends_with_it(_Config) ->
    {ok, {Worker, Monitor}} = py:start_worker(#{}, monitor),
    [One, Other] = [Ref || {ok, Ref} <- [py:stream_start(itertools, count, [], #{pool => Worker, window => 4}) || _ <- [1, 2]]],
    [{ok, 0} = py:stream_next(Ref, ?LONG) || Ref <- [One, Other]],
    exit(whereis(py_sup), kill),
    test_eventually:equal(false, fun() -> py_pool:is_running() end),
    %% Python has new counts to report then.
    ok = py:stream_cancel(One, [flush]),
    ?assertEqual([{error, {worker_exit, stopped}}], [E || E <- each_event(Other), not is_data(E)]),
    receive {'DOWN', Monitor, process, Worker, Reason} -> ?assertEqual({shutdown, {worker_exit, stopped}}, Reason) end,
    test_eventually:true(fun() ->
        [] =:= [A || {A, _, _} <- application:which_applications(), A =:= erlang_python]
    end),
    {ok, _} = application:ensure_all_started(erlang_python),
    ?assertMatch({ok, _}, py:version()).

%% A release that is upgraded twice in a row ends what still runs the oldest code.
-spec code_is_loaded_twice(ct_suite:ct_config()) -> ok.
code_is_loaded_twice(_Config) ->
    Streams = [
        begin
            {ok, Ref} = py:stream_start('__main__', Generator, [], #{timeout => ?LONG}),
            Ref
        end
     || Generator <- [ticks, async_ticks], _ <- lists:seq(1, 5)
    ],
    {ok, In} = py:channel(),
    {ok, Out} = py:stream_start(builtins, iter, [In]),
    ok = py:channel_send(In, 1),
    {ok, 1} = py:stream_next(Out, ?LONG),
    {ok, List} = py:call(builtins, list, [[1]], #{}, #{return => handle}),
    {monitored_by, Monitoring} = process_info(self(), monitored_by),
    Own = [whereis(py_stream_guard) | Monitoring],
    %% These two may end meanwhile; how is checked below.
    {ok, Silent} = py:stream_start('__main__', async_idle, [], #{timeout => 3000}),
    {ok, _} = py:stream_next(Silent, ?LONG),
    Call = py:spawn_call(time, sleep, [2]),
    #{workers := Workers} = py:info(default),
    ok = test_code:load_twice(),
    ?assertEqual([], [Pid || Pid <- Own, not is_process_alive(Pid)]),
    lists:foreach(
        fun(Ref) ->
            _ = [{ok, _} = py:stream_next(Ref, ?LONG) || _ <- lists:seq(1, 20)],
            ok = py:stream_cancel(Ref, [flush])
        end,
        Streams
    ),
    ?assertEqual({error, timeout}, py:stream_next(Silent, ?LONG)),
    ?assertEqual({ok, none}, py:await(Call, ?LONG)),
    ok = py:channel_send(In, 2),
    ?assertEqual({ok, 2}, py:stream_next(Out, ?LONG)),
    ok = py:channel_close(In),
    ?assertEqual(done, py:stream_next(Out, ?LONG)),
    ?assertEqual({ok, 1}, py:call(List, '__len__', [])),
    ok = py:release(List),
    ?assertEqual(pids(Workers), pids(maps:get(workers, py:info(default)))),
    test_leftovers:none().

%% A process that is killed removes nothing from a table; what it left goes when a worker or its manager ends.
-spec rows_of_what_was_killed(ct_suite:ct_config()) -> ok.
rows_of_what_was_killed(_Config) ->
    %% A call that is awaited, and one that is not.
    Awaited = py:spawn_call(asyncio, sleep, [1000]),
    [{Awaited, Call}] = ets:tab2list(py_async_call),
    exit(Call, kill),
    ?assertEqual({error, {worker_exit, killed}}, py:await(Awaited, ?LONG)),
    ?assertEqual(0, ets:info(py_async_call, size)),
    Dropped = py:spawn_call(asyncio, sleep, [1000]),
    exit(ets:lookup_element(py_async_call, Dropped, 2), kill),
    %% A stream that is killed after its worker has ended.
    {ok, Ref} = py:stream_start('__main__', async_idle, []),
    {ok, _} = py:stream_next(Ref, ?LONG),
    Stream = process(Ref),
    true = erlang:suspend_process(Stream),
    [test_workers:kill(Worker) || Worker <- test_workers:ready(default)],
    test_eventually:true(fun() -> maps:get(restarts, py:info(default)) =:= 2 end),
    exit(Stream, kill),
    ?assertEqual({error, {stream_exit, killed}}, py:stream_next(Ref, ?LONG)),
    test_eventually:equal(2, fun() -> length(test_workers:ready(default)) end),
    ok = test_workers:kill(hd(test_workers:ready(default))),
    test_eventually:equal({0, 0}, fun() -> {ets:info(py_requests, size), ets:info(py_async_call, size)} end),
    %% A worker that is killed together with the manager.
    test_eventually:equal(2, fun() -> length(test_workers:ready(default)) end),
    [{_, Manager, _, _}] = supervisor:which_children(py_pool_sup),
    Workers = test_workers:ready(default),
    true = erlang:suspend_process(Manager),
    [exit(Pid, kill) || Pid <- [hd(Workers), Manager]],
    test_eventually:true(fun() -> length(test_workers:ready(default) -- Workers) =:= 2 end),
    ?assertEqual(2, ets:info(py_workers, size)),
    %% The manager of a worker of one's own.
    {ok, {Own, Monitor}} = py:start_worker(#{}, monitor),
    exit(Own, kill),
    receive
        {'DOWN', Monitor, process, Own, killed} -> ok
    end,
    {ok, Next} = py:start_worker(#{}),
    ?assertEqual([default, Next], lists:sort([element(2, Row) || Row <- ets:tab2list(py_pools)])),
    ok = py:stop_worker(Next).

%% Code that runs in all workers goes on. A registered function is called by code of the
%% library that waits for it: it is ended, and Python code gets an error.
-spec what_waits_survives_new_code(ct_suite:ct_config()) -> ok.
what_waits_survives_new_code(Config) ->
    Self = self(),
    Loaded = filename:join(?config(priv_dir, Config), "loaded"),
    ok = py:register_function(owner, fun([]) -> Self end),
    ok = py:exec("to = erlang.call('owner')"),
    ok = py:register_function(waits, fun([]) -> Self ! waits, receive after infinity -> ok end end),
    Callback = py:spawn_call(erlang, call, [<<"waits">>]),
    receive
        waits -> ok
    end,
    %% Whoever waits for it waits in the library's code.
    Code = [
        "import os\nerlang.send(to, 'runs')\n"
        "while not os.path.exists('", Loaded, "'):\n    time.sleep(0.01)\n"
        "ran = 'ran'"
    ],
    {Caller, Monitor} = spawn_monitor(fun() -> py:exec(Code) end),
    [
        receive
            <<"runs">> -> ok
        end
     || _ <- [1, 2]
    ],
    #{workers := Workers} = py:info(default),
    ok = test_code:load_twice(),
    ?assertMatch({error, {<<"ErlangError">>, <<"exception exit: killed">>}}, py:await(Callback, ?LONG)),
    receive
        {'DOWN', Monitor, process, Caller, Reason} -> ?assertEqual(killed, Reason)
    end,
    ok = file:write_file(Loaded, <<>>),
    test_eventually:equal({ok, <<"ran">>}, fun() -> py:eval("globals().get('ran')") end),
    ok = py:exec("after = 1"),
    ?assertMatch(#{journal := 4}, py:info(default)),
    ?assertEqual(pids(Workers), pids(maps:get(workers, py:info(default)))),
    ok = py:unregister_function(waits),
    test_leftovers:none().

%%% Helpers.

process(Ref) -> ets:lookup_element(py_streams, Ref, 2).

pids(Workers) -> [Pid || #{pid := Pid} <- Workers].

is_other(Pid, Before) -> is_pid(Pid) andalso Pid =/= Before.

is_data({data, _}) -> true;
is_data(_) -> false.
