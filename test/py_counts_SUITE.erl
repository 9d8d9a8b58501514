%% @doc What the node counts of its workers' requests is right, whoever is killed, and the choice of a
%% worker is even; and what a request does that finds no worker.
-module(py_counts_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").
-include_lib("erlang_python/erlang_side/src/py_worker.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([
    bursts_are_spread/1,
    a_caller_that_is_killed/1,
    counts_of_a_busy_worker_are_corrected/1,
    a_request_waits_for_a_worker/1,
    a_request_that_finds_no_worker/1,
    a_request_that_waits_is_cancelled/1,
    a_request_that_waits_ends_with_the_application/1,
    exec_is_bounded_with_its_waiting/1,
    a_new_worker_does_not_wait_for_others/1
]).

-define(LONG, 10000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        bursts_are_spread,
        a_caller_that_is_killed,
        counts_of_a_busy_worker_are_corrected,
        a_request_waits_for_a_worker,
        a_request_that_finds_no_worker,
        a_request_that_waits_is_cancelled,
        a_request_that_waits_ends_with_the_application,
        exec_is_bounded_with_its_waiting,
        a_new_worker_does_not_wait_for_others
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    ok = application:set_env(erlang_python, pools, #{}),
    ok = application:set_env(erlang_python, liveness_ms, 100),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> term().
end_per_suite(_Config) ->
    _ = application:stop(erlang_python),
    application:unset_env(erlang_python, pools),
    application:unset_env(erlang_python, liveness_ms).

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> term().
end_per_testcase(_Case, _Config) ->
    test_leftovers:none_and_stop().

%%% Counts.

%% Requests that come at once, from one process or from many, go to all workers alike.
-spec bursts_are_spread(ct_suite:ct_config()) -> ok.
bursts_are_spread(_Config) ->
    start(#{workers => 4}),
    Even = [10, 10, 10, 10],
    On = #{pool => test},
    Calls = [py:spawn_call(asyncio, sleep, [?LONG], #{}, On) || _ <- lists:seq(1, 40)],
    ?assertEqual(Even, test_workers:loads(test)),
    [{error, timeout} = py:await(Call, 0) || Call <- Calls],
    idle(),
    [ok = py:cast(asyncio, sleep, [0.5], #{}, On) || _ <- lists:seq(1, 40)],
    ?assertEqual(Even, test_workers:loads(test)),
    idle(),
    Streams = [element(2, py:stream_start(itertools, count, [], On)) || _ <- lists:seq(1, 40)],
    ?assertEqual(Even, test_workers:loads(test)),
    [ok = py:stream_cancel(Stream, [flush]) || Stream <- Streams],
    idle(),
    %% Arguments that take long to encode do not let many choose the same worker.
    Large = lists:seq(1, 20000),
    Callers = [
        spawn(fun() -> py:call(failing_to_return, idle, [Large], #{}, On) end)
     || _ <- lists:seq(1, 40)
    ],
    test_eventually:equal(40, fun() -> lists:sum(test_workers:loads(test)) end),
    ?assert(lists:min(test_workers:loads(test)) >= 9),
    [exit(Caller, kill) || Caller <- Callers],
    idle().

%% The code of a call is interrupted when its caller is killed, as if it had timed out.
-spec a_caller_that_is_killed(ct_suite:ct_config()) -> ok.
a_caller_that_is_killed(_Config) ->
    start(#{workers => 1, interrupt_after => 100}),
    Self = self(),
    [
        begin
            Caller = spawn(fun() -> py:Function(failing_to_return, Code, [Self], #{}, #{pool => test, timeout => infinity}) end),
            receive
                <<"begun">> -> ok
            end,
            exit(Caller, kill),
            receive
                <<"ended">> -> ok
            end,
            idle()
        end
     || Code <- [idle_for, spin_for], Function <- [call, stream]
    ],
    %% Nothing is kept of calls that have ended.
    {ok, 2.0} = py:call(math, sqrt, [4], #{}, #{pool => test}),
    {ok, 2} = py:await(py:spawn_call(operator, add, [1, 1], #{}, #{pool => test})),
    {ok, #worker{callers = Callers}} = py_pool:choose(test),
    ?assertEqual([], ets:tab2list(Callers)).

%% A count that no request stands for goes, though the worker answers others all the time.
-spec counts_of_a_busy_worker_are_corrected(ct_suite:ct_config()) -> ok.
counts_of_a_busy_worker_are_corrected(_Config) ->
    start(#{workers => 1, max_streams => 20}),
    {ok, Ref} = py:stream_start(failing_to_return, ticks, [], #{pool => test}),
    ok = test_workers:lose({30, 19}, test),
    ?assertEqual({error, overloaded}, py:stream_start(builtins, range, [1], #{pool => test})),
    Busy = spawn_link(fun() -> busy(0) end),
    test_eventually:true(fun() ->
        {Streams, Requests} = test_workers:load(test),
        Streams =:= 1 andalso Requests =< 2
    end),
    ?assertEqual({ok, [0]}, py:stream(builtins, range, [1], #{}, #{pool => test})),
    {ok, _} = py:stream_next(Ref, ?LONG),
    Busy ! {stop, self()},
    receive
        {Busy, Calls} -> ?assert(Calls > 0)
    end,
    ok = py:stream_cancel(Ref, [flush]),
    ?assertMatch(#{restarts := 0}, py:info(test)),
    idle().

busy(N) ->
    {ok, _} = py:call(math, sqrt, [4], #{}, #{pool => test}),
    receive
        {stop, From} -> From ! {self(), N + 1}
    after 5 -> busy(N + 1)
    end.

%%% No worker.

%% Every kind of request that comes just after the death of the only worker is run by the next one.
-spec a_request_waits_for_a_worker(ct_suite:ct_config()) -> ok.
a_request_waits_for_a_worker(_Config) ->
    start(#{workers => 1}),
    On = #{pool => test},
    Requests = [
        {call, fun() -> py:call(math, sqrt, [4], #{}, On) end, {ok, 2.0}},
        {eval, fun() -> py:eval("1 + 1", #{}, On) end, {ok, 2}},
        {exec, fun() -> py:exec("x = 1", On) end, ok},
        {spawn_call, fun() -> py:await(py:spawn_call(math, sqrt, [4], #{}, On)) end, {ok, 2.0}},
        {stream, fun() -> py:stream(builtins, range, [3], #{}, On) end, {ok, [0, 1, 2]}},
        {stream_start, fun() ->
            {ok, Ref} = py:stream_start(builtins, range, [2], On#{demand => 1}),
            {ok, 0} = py:stream_next(Ref, ?LONG),
            ok = py:stream_demand(Ref, 5),
            [py:stream_next(Ref, ?LONG), py:stream_next(Ref, ?LONG)]
        end, [{ok, 1}, done]}
    ],
    lists:foreach(
        fun({Kind, Request, Expected}) ->
            ok = no_worker(),
            ?assertEqual({Kind, Expected}, {Kind, Request()})
        end,
        Requests
    ).

%% After `worker_wait' the error says that nothing has run. Who makes a request that has an answer
%% later does not wait.
-spec a_request_that_finds_no_worker(ct_suite:ct_config()) -> ok.
a_request_that_finds_no_worker(Config) ->
    Marker = broken_from_now(Config, #{worker_wait => 300}),
    On = #{pool => test},
    NoWorker = fun({error, {no_worker, {cannot_start, _}}}) -> true end,
    {Took, _} = timer:tc(fun() ->
        {ok, Ref} = py:stream_start(builtins, range, [3], On),
        Call = py:spawn_call(math, sqrt, [4], #{}, On),
        ok = py:cast(math, sqrt, [4], #{}, On),
        self() ! {later, Ref, Call}
    end),
    ?assert(Took < 200000),
    receive
        {later, Ref, Call} ->
            true = NoWorker(py:stream_next(Ref, ?LONG)),
            true = NoWorker(py:await(Call, ?LONG))
    end,
    [
        begin
            {Waited, Result} = timer:tc(Request),
            true = NoWorker(Result),
            ?assert(Waited >= 290000)
        end
     || Request <- [
            fun() -> py:call(math, sqrt, [4], #{}, On) end,
            fun() -> py:eval("1", #{}, On) end,
            fun() -> py:exec("1", On) end,
            fun() -> py:stream(builtins, range, [3], #{}, On) end
        ]
    ],
    %% Within the time of its own.
    Soon = On#{timeout => 100},
    ?assertEqual({error, timeout}, py:call(math, sqrt, [4], #{}, Soon)),
    ?assertEqual({error, timeout}, py:exec("1", Soon)),
    ?assertEqual({error, timeout}, py:stream(builtins, range, [3], #{}, Soon)),
    ?assertMatch("the request was not started" ++ _, py:format_error({no_worker, {worker_exit, {signal, 11}}})),
    ok = file:delete(Marker),
    test_eventually:equal({ok, 2.0}, fun() -> py:call(math, sqrt, [4], #{}, On) end).

%% One that waits is cancelled like any other, and ends with its pool.
-spec a_request_that_waits_is_cancelled(ct_suite:ct_config()) -> ok.
a_request_that_waits_is_cancelled(Config) ->
    Marker = broken_from_now(Config, #{worker_wait => infinity}),
    {ok, Ref} = py:stream_start(builtins, range, [3], #{pool => test}),
    ok = py:stream_cancel(Ref),
    ?assertEqual({error, cancelled}, py:stream_next(Ref, ?LONG)),
    {ok, Other} = py:stream_start(builtins, range, [3], #{pool => test}),
    Call = py:spawn_call(math, sqrt, [4], #{}, #{pool => test}),
    ok = py:stop_pool(test),
    ?assertEqual({error, {no_pool, test}}, py:stream_next(Other, ?LONG)),
    ?assertEqual({error, {no_pool, test}}, py:await(Call, ?LONG)),
    ok = file:delete(Marker).

%% Nor does it hold up the end of the application, which would have to kill what waits for its streams.
-spec a_request_that_waits_ends_with_the_application(ct_suite:ct_config()) -> ok.
a_request_that_waits_ends_with_the_application(Config) ->
    Marker = broken_from_now(Config, #{worker_wait => infinity}),
    {ok, Ref} = py:stream_start(builtins, range, [3], #{pool => test}),
    Monitor = monitor(process, py_stream_guard),
    ok = application:stop(erlang_python),
    receive
        {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(shutdown, Reason)
    end,
    ?assertEqual({error, {no_worker, {worker_exit, stopped}}}, py:stream_next(Ref, ?LONG)),
    ?assertEqual(timeout, py:stream_next(Ref, 0)),
    ok = file:delete(Marker),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok.

%%% Code of a pool.

%% The time limit of `py:exec' is one for waiting in the queue and running.
-spec exec_is_bounded_with_its_waiting(ct_suite:ct_config()) -> ok.
exec_is_bounded_with_its_waiting(_Config) ->
    start(#{workers => 1}),
    {Pid, Monitor} = spawn_monitor(fun() ->
        exit(py:exec("import time\nbegun = 1\ntime.sleep(2)", #{pool => test, replay => false}))
    end),
    test_eventually:equal({ok, 1}, fun() -> py:eval("begun", #{}, #{pool => test}) end),
    {Took, Result} = timer:tc(fun() -> py:exec("late = 1", #{pool => test, timeout => 200}) end),
    ?assertEqual({error, timeout}, Result),
    ?assert(Took < 1000000),
    receive
        {'DOWN', Monitor, process, Pid, First} -> ?assertEqual(ok, First)
    end,
    %% It has not run, and no other worker runs it either.
    ?assertMatch({error, {'NameError', _}}, py:eval("late", #{}, #{pool => test})),
    ?assertMatch(#{journal := 0}, py:info(test)).

%% A worker that died while code runs in another one for long takes work when it has run what
%% there is; and the one that runs it has never ceased to.
-spec a_new_worker_does_not_wait_for_others(ct_suite:ct_config()) -> ok.
a_new_worker_does_not_wait_for_others(_Config) ->
    start(#{workers => 2}),
    ok = py:exec("x = 'replayed'", #{pool => test}),
    {Pid, Monitor} = spawn_monitor(fun() ->
        exit(py:exec("import time, os\nbegun = os.getpid()\ntime.sleep(4)", #{pool => test, replay => false}))
    end),
    test_eventually:true(fun() -> is_tuple(py:eval("begun", #{}, #{pool => test})) end),
    test_eventually:equal([1, 1], fun() -> test_workers:loads(test) end),
    [Worker | _] = test_workers:ready(test),
    ok = test_workers:kill(Worker),
    test_eventually:true(fun() -> not lists:member(Worker, test_workers:ready(test)) end),
    test_eventually:equal(2, fun() -> length(test_workers:ready(test)) end),
    ?assert(is_process_alive(Pid)),
    ?assertEqual([{ok, <<"replayed">>}], lists:usort([py:eval("x", #{}, #{pool => test}) || _ <- lists:seq(1, 4)])),
    receive
        {'DOWN', Monitor, process, Pid, Result} -> ?assertEqual(ok, Result)
    end.

%%% What the cases share.

start(Opts) ->
    {ok, _} = py:start_pool(test, Opts),
    ok = py:exec(
        "import asyncio, erlang, itertools, sys, time, types\n"
        "def idle(_): return asyncio.sleep(1000)\n"
        "async def idle_for(pid):\n"
        "    try:\n"
        "        erlang.send(pid, 'begun')\n"
        "        await asyncio.sleep(1000)\n"
        "    finally:\n"
        "        erlang.send(pid, 'ended')\n"
        "def spin_for(pid):\n"
        "    try:\n"
        "        erlang.send(pid, 'begun')\n"
        "        while True: pass\n"
        "    finally:\n"
        "        erlang.send(pid, 'ended')\n"
        "def ticks():\n"
        "    for n in itertools.count():\n"
        "        time.sleep(0.01)\n"
        "        yield n\n"
        "module = types.ModuleType('failing_to_return')\n"
        "for f in (idle, idle_for, spin_for, ticks): setattr(module, f.__name__, f)\n"
        "sys.modules['failing_to_return'] = module\n",
        #{pool => test, replay => false}
    ).

idle() ->
    test_eventually:equal({0, 0}, fun() -> test_workers:load(test) end).

%% Returns when the node knows that its only worker is gone.
no_worker() ->
    [Worker] = test_workers:ready(test),
    Monitor = monitor(process, Worker),
    ok = test_workers:kill(Worker),
    receive
        {'DOWN', Monitor, process, Worker, _} -> ok
    end,
    test_eventually:true(fun() -> test_workers:ready(test) =/= [Worker] end).

%% A pool whose worker is gone, and which cannot start another one until a file is deleted.
broken_from_now(Config, Opts) ->
    Marker = filename:join(?config(priv_dir, Config), "cannot_start"),
    Program = filename:join(?config(priv_dir, Config), "python"),
    Script = ["#!/bin/sh\ntest -e ", Marker, " && exit 9\nexec ", os:getenv("ERLANG_PYTHON", "python3"), " \"$@\"\n"],
    ok = file:write_file(Program, Script),
    ok = file:change_mode(Program, 8#755),
    {ok, _} = py:start_pool(test, Opts#{workers => 1, python => Program}),
    ok = file:write_file(Marker, ""),
    [Worker] = test_workers:ready(test),
    ok = test_workers:kill(Worker),
    test_eventually:true(fun() -> maps:get(failures, py:info(test)) >= 1 end),
    Marker.
