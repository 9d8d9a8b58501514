%% @doc Operating pools: under a supervisor of one's own, and what is known of them.
-module(py_operation_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-behaviour(supervisor).

-export([all/0, groups/0, suite/0]).
-export([init_per_testcase/2, end_per_testcase/2]).
-export([
    a_pool_of_an_application/1,
    its_manager_is_killed/1,
    its_supervisor_is_killed/1,
    a_pool_that_cannot_start/1,
    a_supervisor_that_is_stopped_while_it_starts/1,
    a_name_that_is_taken/1,
    without_the_application/1,
    no_pool_at_all/1,
    an_idle_worker_has_imported_little/1,
    info_of_workers/1,
    info_of_stuck_workers/1,
    info_of_a_hundred_workers/1,
    workers_that_are_listed/1,
    a_table_for_the_shell/1,
    restart_workers_under_load/1,
    restart_workers_that_are_recycled/1,
    restart_workers_that_cannot_start/1,
    recycled_by_requests/1,
    recycled_by_age/1,
    recycled_by_memory/1,
    what_runs_ends_first/1,
    what_runs_for_too_long/1,
    a_successor_has_run_what_the_others_have/1,
    a_worker_dies_while_it_is_replaced/1,
    reload_what_has_changed/1,
    stop_a_pool_in_order/1,
    stop_the_application_in_order/1,
    stop_a_supervisor_in_order/1,
    counters_of_pools_and_workers/1,
    counters_outlive_workers/1,
    requests_that_wait/1,
    classes_are_bounded/1,
    requests_under_way/1,
    a_page_for_prometheus/1,
    events_of_telemetry/1,
    metadata_is_there_in_python/1,
    a_trace_is_continued/1,
    log_records_say_where_they_are_from/1,
    the_way_to_the_log_stays/1,
    logging_is_imported_late/1,
    a_failed_cast_is_named/1,
    processes_have_names/1,
    limits_are_spread/1
]).
%% Of the supervisor, and of the handler.
-export([init/1, log/2]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [{group, atom()}].
all() ->
    [{group, supervised}, {group, info}, {group, recycling}, {group, leaving}, {group, metrics}, {group, logs}].

-spec groups() -> [{atom(), [atom()], [atom()]}].
groups() ->
    [
        {supervised, [], [
            a_pool_of_an_application,
            its_manager_is_killed,
            its_supervisor_is_killed,
            a_pool_that_cannot_start,
            a_supervisor_that_is_stopped_while_it_starts,
            a_name_that_is_taken,
            without_the_application,
            no_pool_at_all
        ]},
        {info, [], [
            an_idle_worker_has_imported_little,
            info_of_workers,
            info_of_stuck_workers,
            info_of_a_hundred_workers,
            workers_that_are_listed,
            a_table_for_the_shell
        ]},
        {recycling, [], [
            restart_workers_under_load,
            restart_workers_that_are_recycled,
            restart_workers_that_cannot_start,
            recycled_by_requests,
            recycled_by_age,
            recycled_by_memory,
            what_runs_ends_first,
            what_runs_for_too_long,
            a_successor_has_run_what_the_others_have,
            a_worker_dies_while_it_is_replaced,
            reload_what_has_changed,
            limits_are_spread
        ]},
        {metrics, [], [
            counters_of_pools_and_workers,
            counters_outlive_workers,
            requests_that_wait,
            classes_are_bounded,
            requests_under_way,
            a_page_for_prometheus,
            events_of_telemetry
        ]},
        {logs, [], [
            metadata_is_there_in_python,
            a_trace_is_continued,
            log_records_say_where_they_are_from,
            the_way_to_the_log_stays,
            logging_is_imported_late,
            a_failed_cast_is_named,
            processes_have_names
        ]},
        {leaving, [], [
            stop_a_pool_in_order,
            stop_the_application_in_order,
            stop_a_supervisor_in_order
        ]}
    ].

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    application:load(erlang_python),
    application:set_env(erlang_python, pools, #{}),
    {ok, _} = application:ensure_all_started(erlang_python),
    process_flag(trap_exit, true),
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    _ = logger:remove_handler(?MODULE),
    _ = application:stop(erlang_python),
    [application:unset_env(erlang_python, Key) || Key <- [pools, drain_timeout, liveness_ms]],
    ok.

%%% Under a supervisor of one's own.

%% The pool takes work when its supervisor has started, ends with it, and starts again.
-spec a_pool_of_an_application(ct_suite:ct_config()) -> term().
a_pool_of_an_application(_Config) ->
    Spec = py:pool_spec(mine, [{workers, 2}]),
    ?assertMatch(#{id := mine, type := worker, start := {_, _, _}}, Spec),
    [
        begin
            {ok, Sup} = start([Spec]),
            ?assertMatch([{mine, _, worker, _}], supervisor:which_children(Sup)),
            {ok, Pid} = call(os, getpid),
            ok = exec(<<"x = 1">>),
            ?assertEqual({ok, 1}, eval("x")),
            ok = stop(Sup),
            ?assertNot(test_os_process:is_running(Pid)),
            ?assertEqual({error, {no_pool, mine}}, eval("x")),
            ?assertEqual(#{}, py:info())
        end
     || _ <- [1, 2]
    ].

%% A manager that is killed is started again by that supervisor, and has run what the one before had.
-spec its_manager_is_killed(ct_suite:ct_config()) -> term().
its_manager_is_killed(_Config) ->
    {ok, Sup} = start([py:pool_spec(mine, #{workers => 1})]),
    ok = exec(<<"x = 1">>),
    [{mine, Manager, _, _}] = supervisor:which_children(Sup),
    exit(Manager, kill),
    test_eventually:true(fun() -> eval("x") =:= {ok, 1} end),
    [{mine, Next, _, _}] = supervisor:which_children(Sup),
    ?assertNotEqual(Manager, Next),
    %% The supervisor of the other pools has no part in it.
    Others = whereis(py_pool_sup),
    exit(Others, kill),
    test_eventually:true(fun() -> not lists:member(whereis(py_pool_sup), [Others, undefined]) end),
    ?assertEqual({ok, 1}, eval("x")),
    ?assertEqual([], supervisor:which_children(py_pool_sup)),
    ok = stop(Sup).

%% Nothing is left of a pool whose supervisor is killed, and the next one may start it.
-spec its_supervisor_is_killed(ct_suite:ct_config()) -> term().
its_supervisor_is_killed(_Config) ->
    Spec = py:pool_spec(mine, #{workers => 1}),
    {ok, First} = start([Spec]),
    exit(First, kill),
    {ok, Second} = start([Spec]),
    ?assertEqual({ok, 2}, eval("1 + 1")),
    exit(Second, kill),
    test_eventually:true(fun() -> py:info() =:= #{} end).

%% Wrong options raise where they are written; what is missing is an error that names it.
-spec a_pool_that_cannot_start(ct_suite:ct_config()) -> term().
a_pool_that_cannot_start(_Config) ->
    ?assertError({badopt, {wrokers, 2}}, py:pool_spec(mine, #{wrokers => 2})),
    {error, {shutdown, {failed_to_start_child, mine, {cannot_start, Why}}}} =
        start([py:pool_spec(mine, #{python_path => ["/no/such/folder"]})]),
    ?assertMatch({_, _}, binary:match(Why, <<"/no/such/folder">>)),
    ?assertMatch({_, _}, binary:match(Why, <<"python_path">>)),
    {error, {shutdown, {failed_to_start_child, mine, {cannot_start, App}}}} =
        start([py:pool_spec(mine, #{python_path => [{priv, no_such_application, "python"}]})]),
    ?assertMatch({_, _}, binary:match(App, <<"no_such_application">>)),
    ?assertEqual(#{}, py:info()).

%% It does not wait for a worker that never gets ready.
-spec a_supervisor_that_is_stopped_while_it_starts(ct_suite:ct_config()) -> term().
a_supervisor_that_is_stopped_while_it_starts(Config) ->
    Marker = filename:join(?config(priv_dir, Config), "begun"),
    Code = "import time; open('" ++ Marker ++ "', 'w').close(); time.sleep(3600)",
    Spec = py:pool_spec(mine, #{workers => 1, preload => [Code], start_timeout => infinity}),
    Self = self(),
    {Starter, Monitor} = spawn_monitor(fun() ->
        process_flag(trap_exit, true),
        Self ! {result, start([Spec])}
    end),
    test_eventually:true(fun() -> filelib:is_file(Marker) end),
    [Sup] = [Pid || Pid <- processes(), {dictionary, D} <- [process_info(Pid, dictionary)], [Starter] =:= ancestors(D)],
    exit(Sup, shutdown),
    %% A supervisor hears only of its parent.
    ?assert(is_process_alive(Sup)),
    exit(Starter, kill),
    receive
        {'DOWN', Monitor, process, Starter, _} -> ok
    end,
    test_eventually:true(fun() -> not is_process_alive(Sup) end),
    ?assertEqual(#{}, py:info()).

ancestors(Dictionary) ->
    [hd(Ancestors) || {'$ancestors', Ancestors} <- Dictionary, length(Ancestors) =:= 1].

%% One name is one pool's, whoever starts it.
-spec a_name_that_is_taken(ct_suite:ct_config()) -> term().
a_name_that_is_taken(_Config) ->
    {ok, Sup} = start([py:pool_spec(mine, #{workers => 1})]),
    {error, {already_started, Pid}} = py:start_pool(mine, #{}),
    ?assertMatch([{mine, Pid, _, _}], supervisor:which_children(Sup)),
    {error, {shutdown, {failed_to_start_child, mine, {already_started, Pid}}}} = start([py:pool_spec(mine, #{})]),
    %% It is its supervisor that stops it, and may start it again.
    ok = py:stop_pool(mine),
    ?assertEqual({error, {no_pool, mine}}, py:stop_pool(mine)),
    ?assertMatch([{mine, undefined, _, _}], supervisor:which_children(Sup)),
    {ok, _} = supervisor:restart_child(Sup, mine),
    ?assertEqual({ok, 2}, eval("1 + 1")),
    ok = stop(Sup),
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    {error, {shutdown, {failed_to_start_child, mine, {already_started, _}}}} = start([py:pool_spec(mine, #{})]),
    ok = py:stop_pool(mine).

-spec without_the_application(ct_suite:ct_config()) -> term().
without_the_application(_Config) ->
    ok = application:stop(erlang_python),
    ?assertEqual(
        {error, {shutdown, {failed_to_start_child, mine, {not_started, erlang_python}}}},
        start([py:pool_spec(mine, #{})])
    ).

%% A configuration without pools starts no Python, and names what is missing.
-spec no_pool_at_all(ct_suite:ct_config()) -> term().
no_pool_at_all(_Config) ->
    ?assertEqual(#{}, py:info()),
    ?assertEqual({error, {no_pool, default}}, py:eval("1")).

%%% What is known of pools.

%% What is needed later is imported then: a start takes a third less time. What the interpreter has imported by
%% itself, for its site, does not count.
-spec an_idle_worker_has_imported_little(ct_suite:ct_config()) -> term().
an_idle_worker_has_imported_little(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    {ok, Imported} = call(sys, 'modules.keys'),
    {ok, Python} = call(sys, 'executable.__str__'),
    Bare = string:lexemes(os:cmd(binary_to_list(Python) ++ " -c 'import sys; print(*sys.modules)'"), " \n"),
    Later = [
        "asyncio", "concurrent", "dataclasses", "datetime", "decimal", "dis", "inspect", "json", "linecache", "logging",
        "msgpack", "pickle", "random", "re", "shutil", "socket", "subprocess", "tempfile", "textwrap", "tokenize", "traceback", "typing"
    ],
    ?assertEqual([], [Name || Name <- Later -- Bare, lists:member(list_to_binary(Name), Imported)]),
    ?assert(lists:member(<<"erlang_port.worker">>, Imported)).

%% What Python says of itself arrives without being asked for.
-spec info_of_workers(ct_suite:ct_config()) -> term().
info_of_workers(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    {ok, OsPid} = call(os, getpid),
    {ok, Version} = call(platform, python_version),
    #{last_exit := none, workers := [#{os_pid := OsPid, python := Version, rss := Rss, age := Age}]} = py:info(mine),
    ?assert(Rss > 1_000_000),
    ?assert(Age >= 0),
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => mine, demand => 1}),
    {ok, 0} = py:stream_next(Ref),
    test_eventually:true(fun() ->
        #{workers := [#{streams := Streams, requests := Requests}]} = py:info(mine),
        {Streams, Requests} =:= {1, 1}
    end),
    ok = py:stream_cancel(Ref, [flush]),
    test_eventually:true(fun() ->
        #{workers := [#{streams := Streams, requests := Requests}]} = py:info(mine),
        {Streams, Requests} =:= {0, 0}
    end),
    signal(OsPid, "KILL"),
    test_eventually:true(fun() -> eval("1") =:= {ok, 1} end),
    ?assertMatch(#{last_exit := {worker_exit, {signal, 9}}, restarts := 1}, py:info(mine)).

%% A worker that holds the interpreter lock is not asked, and is seen not to answer.
-spec info_of_stuck_workers(ct_suite:ct_config()) -> term().
info_of_stuck_workers(_Config) ->
    application:set_env(erlang_python, liveness_ms, 100),
    {ok, _} = py:start_pool(mine, #{workers => 2}),
    %% Stopped processes answer nothing, and use no processor.
    #{workers := Listed} = py:info(mine),
    OsPids = [OsPid || #{os_pid := OsPid} <- Listed],
    Refs = [py:spawn_call(time, sleep, [0.3], #{}, #{pool => Pid}) || #{pid := Pid} <- Listed],
    [signal(OsPid, "STOP") || OsPid <- OsPids],
    test_eventually:true(fun() ->
        {Micros, #{workers := Workers}} = timer:tc(py, info, [mine]),
        ?assert(Micros < 100_000),
        [timeout || #{error := timeout} <- Workers] =:= [timeout, timeout]
    end),
    ?assertMatch({_, _}, binary:match(iolist_to_binary(py_info_format:format(py:info())), <<"does not answer">>)),
    [signal(OsPid, "CONT") || OsPid <- OsPids],
    [{ok, none} = py:await(Ref) || Ref <- Refs],
    test_eventually:true(fun() -> [e || #{error := _} <- maps:get(workers, py:info(mine))] =:= [] end),
    application:unset_env(erlang_python, liveness_ms).

%% Rows as a hundred workers have them: a millisecond is enough for all.
-spec info_of_a_hundred_workers(ct_suite:ct_config()) -> term().
info_of_a_hundred_workers(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    #{workers := [#{pid := Pid}]} = py:info(mine),
    [Row] = ets:lookup(py_workers, Pid),
    Pids = [spawn_link(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, 99)],
    [ets:insert(py_workers, setelement(2, Row, Other)) || Other <- Pids],
    ?assertMatch(#{workers := Workers} when length(Workers) =:= 100, py:info(mine)),
    %% The shortest of some: other programs run beside the test.
    Fastest = lists:min([element(1, timer:tc(py, info, [])) || _ <- lists:seq(1, 50)]),
    ct:pal("info of 100 workers: ~b us", [Fastest]),
    ?assert(Fastest < 1000),
    [begin ets:delete(py_workers, Other), Other ! stop end || Other <- Pids].

%% A pid of the list is good for a request.
-spec workers_that_are_listed(ct_suite:ct_config()) -> term().
workers_that_are_listed(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 2, none => nil, binaries => bytes}),
    #{workers := Workers} = py:info(mine),
    [
        begin
            ?assertEqual({ok, OsPid}, py:call(os, getpid, [], #{}, #{pool => Pid})),
            ?assertEqual({ok, <<"bytes">>}, py:eval("type(x).__name__", #{x => <<"a">>}, #{pool => Pid})),
            ?assertMatch(#{pool := mine}, py:info(Pid))
        end
     || #{pid := Pid, os_pid := OsPid} <- Workers
    ],
    ok = py:stop_pool(mine),
    [?assertEqual({error, {no_pool, Pid}}, py:eval("1", #{}, #{pool => Pid})) || #{pid := Pid} <- Workers],
    {ok, Own} = py:start_worker(#{}),
    #{workers := [#{pid := Listed}]} = py:info(Own),
    ?assertEqual({ok, 1}, py:eval("1", #{}, #{pool => Listed})),
    ok = py:stop_worker(Own).

%% It fits a terminal, whatever there is to say, and can be repeated.
-spec a_table_for_the_shell(ct_suite:ct_config()) -> term().
a_table_for_the_shell(_Config) ->
    Long = list_to_atom(lists:duplicate(200, $x)),
    {ok, _} = py:start_pool(Long, #{workers => 1}),
    {ok, _} = py:start_pool(mine, #{workers => 2}),
    Error = {'ModuleNotFoundError', unicode:characters_to_binary(lists:duplicate(500, $y))},
    Pools = maps:map(fun(_, Pool) -> Pool#{restarts => 123456, last_exit => Error, size => 4} end, py:info()),
    [
        ?assert(string:length(Line) =< 100, Line)
     || Text <- [py_info_format:format(Pools), py_info_format:format(py:info())],
        Line <- string:split(unicode:characters_to_list(Text), "\n", all)
    ],
    Self = self(),
    Device = spawn(fun() -> device(Self) end),
    Printer = spawn(fun() ->
        group_leader(Device, self()),
        py:i(1)
    end),
    Tables = [receive {printed, Chars} -> Chars end || _ <- [first, second, pause, third]],
    ?assertMatch(["pool" ++ _, "pool" ++ _ | _], [T || T <- Tables, T =/= "\n"]),
    exit(Printer, kill),
    ?assertError({badopt, {seconds, 0}}, py:i(0)).

device(To) ->
    receive
        {io_request, From, As, {put_chars, unicode, Chars}} ->
            To ! {printed, unicode:characters_to_list(Chars)},
            From ! {io_reply, As, ok},
            device(To);
        {io_request, From, As, _} ->
            From ! {io_reply, As, {error, request}},
            device(To)
    end.

%%% Recycling.

%% Callers and streams notice nothing, and there are never fewer workers than before.
-spec restart_workers_under_load(ct_suite:ct_config()) -> term().
restart_workers_under_load(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 2}),
    Before = os_pids(),
    Callers = [load(fun() -> {ok, _} = py:call(time, sleep, [0.001], #{}, #{pool => mine}) end) || _ <- lists:seq(1, 4)],
    Streams = [load(fun() -> {ok, [0, 1, 2]} = py:stream(builtins, range, [3], #{}, #{pool => mine}) end) || _ <- [1, 2]],
    Casts = load(fun() -> {ok, 2.0} = py:await(py:spawn_call(math, sqrt, [4], #{}, #{pool => mine})) end),
    Watch = load(fun() -> 2 = min(2, length(test_workers:ready(mine))) end),
    ok = py:restart_workers(mine),
    ok = py:restart_workers(mine),
    After = os_pids(),
    Counts = [unload(Pid) || Pid <- [Watch, Casts | Callers ++ Streams]],
    ct:pal("rolled twice under load; requests: ~p, errors: 0", [lists:sum(tl(Counts))]),
    ?assertEqual(2, length(After)),
    ?assertEqual([], [Pid || Pid <- After, lists:member(Pid, Before)]),
    [test_eventually:true(fun() -> not test_os_process:is_running(Pid) end) || Pid <- Before],
    ?assertMatch(#{restarts := 0, last_exit := none}, py:info(mine)).

%% If the first new one cannot start, the reason is returned and the old ones stay.
%% It returns, even if there is always a worker that is about to be replaced.
-spec restart_workers_that_are_recycled(ct_suite:ct_config()) -> term().
restart_workers_that_are_recycled(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 2, max_requests => 1}),
    Before = os_pids(),
    Loads = [load(fun() -> {ok, 2} = eval("1 + 1") end) || _ <- [1, 2]],
    ok = py:restart_workers(mine),
    ?assertEqual([], [OsPid || OsPid <- os_pids(), lists:member(OsPid, Before)]),
    [unload(Load) || Load <- Loads].

-spec restart_workers_that_cannot_start(ct_suite:ct_config()) -> term().
restart_workers_that_cannot_start(Config) ->
    Dir = folder(Config, "broken"),
    write(Dir, "fragile.py", "x = 1"),
    {ok, _} = py:start_pool(mine, #{workers => 2, python_path => [Dir], preload => [fragile]}),
    Before = os_pids(),
    write(Dir, "fragile.py", "raise ValueError('broken')"),
    {error, {cannot_start, Why}} = py:restart_workers(mine),
    ?assertMatch({_, _}, binary:match(Why, <<"broken">>)),
    ?assertEqual(Before, os_pids()),
    ?assertEqual({ok, 1}, eval("__import__('fragile').x")),
    write(Dir, "fragile.py", "x = 2"),
    test_eventually:equal(ok, fun() -> py:restart_workers(mine) end),
    ?assertEqual({ok, 2}, eval("__import__('fragile').x")),
    test_eventually:equal(2, fun() -> length(test_workers:ready(mine)) end),
    ?assertEqual({error, {no_pool, other}}, py:restart_workers(other)).

-spec recycled_by_requests(ct_suite:ct_config()) -> term().
recycled_by_requests(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1, max_requests => 10}),
    Pids = [begin {ok, Pid} = call(os, getpid), Pid end || _ <- lists:seq(1, 200)],
    [First | _] = Pids,
    Of = length([Pid || Pid <- Pids, Pid =:= First]),
    %% It goes on until there is another.
    ?assert(Of >= 8),
    test_eventually:true(fun() -> {ok, Now} = call(os, getpid), Now =/= First end),
    test_eventually:true(fun() -> not test_os_process:is_running(First) end),
    ?assertMatch(#{restarts := 0}, py:info(mine)).

-spec recycled_by_age(ct_suite:ct_config()) -> term().
recycled_by_age(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 2, max_age => 500}),
    Before = os_pids(),
    test_eventually:true(fun() -> os_pids() -- Before =:= os_pids() andalso length(os_pids()) =:= 2 end),
    ?assertMatch(#{restarts := 0, last_exit := none}, py:info(mine)).

-spec recycled_by_memory(ct_suite:ct_config()) -> term().
recycled_by_memory(_Config) ->
    application:set_env(erlang_python, liveness_ms, 100),
    {ok, _} = py:start_pool(mine, #{workers => 1, max_rss => 200_000_000}),
    Before = os_pids(),
    ok = py:exec("hoard = bytearray(300_000_000)", #{pool => mine, replay => false}),
    test_eventually:true(fun() -> length(os_pids()) =:= 1 andalso os_pids() =/= Before end),
    ?assertMatch(#{workers := [#{rss := Rss}]} when Rss < 200_000_000, py:info(mine)).

%% The old worker takes nothing new, and leaves when what it runs has ended.
-spec what_runs_ends_first(ct_suite:ct_config()) -> term().
what_runs_ends_first(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    [Before] = os_pids(),
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => mine, demand => 1}),
    {ok, 0} = py:stream_next(Ref),
    ok = py:restart_workers(mine),
    {ok, After} = call(os, getpid),
    ?assertNotEqual(Before, After),
    ok = py:stream_demand(Ref, 2),
    {ok, 1} = py:stream_next(Ref),
    {ok, 2} = py:stream_next(Ref),
    ?assert(test_os_process:is_running(Before)),
    ok = py:stream_cancel(Ref, [flush]),
    test_eventually:true(fun() -> not test_os_process:is_running(Before) end).

%% It has so long.
-spec what_runs_for_too_long(ct_suite:ct_config()) -> term().
what_runs_for_too_long(_Config) ->
    application:set_env(erlang_python, drain_timeout, 200),
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => mine, demand => 1}),
    {ok, 0} = py:stream_next(Ref),
    ok = py:restart_workers(mine),
    ?assertEqual({error, {worker_exit, stopped}}, py:stream_next(Ref, 10000)),
    application:set_env(erlang_python, drain_timeout, 0).

-spec a_successor_has_run_what_the_others_have(ct_suite:ct_config()) -> term().
a_successor_has_run_what_the_others_have(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 2}),
    ok = exec("seen = set()"),
    Adding = load(fun() ->
        timer:sleep(2),
        ok = exec(["seen.add(", integer_to_list(erlang:unique_integer([positive])), ")"])
    end),
    ok = py:restart_workers(mine),
    Added = unload(Adding),
    [?assertEqual({ok, Added}, py:eval("len(seen)", #{}, #{pool => Pid})) || #{pid := Pid} <- maps:get(workers, py:info(mine))].

%% There are as many workers as before in the end, and not one more.
-spec a_worker_dies_while_it_is_replaced(ct_suite:ct_config()) -> term().
a_worker_dies_while_it_is_replaced(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 2}),
    [
        begin
            {Pid, Monitor} = spawn_monitor(fun() -> ok = py:restart_workers(mine) end),
            [signal(OsPid, "KILL") || OsPid <- os_pids()],
            receive
                {'DOWN', Monitor, process, Pid, Reason} -> ?assertEqual(normal, Reason)
            end
        end
     || _ <- [1, 2, 3]
    ],
    {_, Manager, _, _} = lists:keyfind(mine, 1, supervisor:which_children(py_pool_sup)),
    test_eventually:equal({2, 2}, fun() ->
        {links, Links} = process_info(Manager, links),
        {length(test_workers:ready(mine)), length(Links) - 1}
    end),
    ok = py:restart_workers(mine),
    ?assertEqual(2, length(os_pids())).

%% What was imported from the pool's folders is imported anew when it has changed.
-spec reload_what_has_changed(ct_suite:ct_config()) -> term().
reload_what_has_changed(Config) ->
    Dir = folder(Config, "reload"),
    write(Dir, "fresh.py", "x = 1"),
    {ok, _} = py:start_pool(mine, #{workers => 1, python_path => [Dir], reload => true}),
    ?assertEqual({ok, 1}, eval("__import__('fresh').x")),
    [First] = os_pids(),
    %% Its time is known once it was looked up.
    timer:sleep(1000),
    write(Dir, "fresh.py", "x = 22"),
    test_eventually:equal({ok, 22}, fun() -> eval("__import__('fresh').x") end),
    ?assertNotEqual([First], os_pids()).

%% Workers that start together do not leave together.
-spec limits_are_spread(ct_suite:ct_config()) -> term().
limits_are_spread(_Config) ->
    Opts = py_options:pool(#{max_age => 100_000, max_requests => 1, max_rss => 1000}),
    Ages = [py_recycling:age(py_recycling:new(Opts)) || _ <- lists:seq(1, 100)],
    ?assert(lists:max(Ages) =< 100_000),
    ?assert(lists:min(Ages) >= 80_000),
    ?assert(length(lists:usort(Ages)) > 50),
    ?assertMatch({enough, _}, py_recycling:request_done(py_recycling:new(Opts))).

%%% Leaving in order.

-spec stop_a_pool_in_order(ct_suite:ct_config()) -> term().
stop_a_pool_in_order(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    Call = py:spawn_call(time, sleep, [0.5], #{}, #{pool => mine}),
    await_calls(1),
    ok = py:stop_pool(mine, #{drain => 10000}),
    ?assertEqual({ok, none}, py:await(Call)),
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    Endless = py:spawn_call(time, sleep, [60], #{}, #{pool => mine}),
    await_calls(1),
    ok = py:stop_pool(mine, [{drain, 100}]),
    ?assertEqual({error, {worker_exit, stopped}}, py:await(Endless)),
    ?assertEqual({error, {no_pool, mine}}, py:stop_pool(mine, #{drain => 100})),
    ?assertError({badopt, {drian, 1}}, py:stop_pool(mine, #{drian => 1})),
    ?assertError({badopt, _}, py:stop_pool(mine, #{drain => soon})).

%% What runs ends, for as long as `drain_timeout' says, and nothing new starts meanwhile.
-spec stop_the_application_in_order(ct_suite:ct_config()) -> term().
stop_the_application_in_order(_Config) ->
    application:set_env(erlang_python, drain_timeout, 10000),
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    Call = py:spawn_call(time, sleep, [0.5], #{}, #{pool => mine}),
    {ok, Ref} = py:stream_start(builtins, range, [100], #{pool => mine, window => 1}),
    await_calls(1),
    {Stopper, Monitor} = spawn_monitor(fun() -> application:stop(erlang_python) end),
    test_eventually:equal({error, draining}, fun() -> eval("1") end),
    Sum = fun(Value, Acc) -> {cont, Acc + Value} end,
    ?assertEqual({ok, 4950}, py:stream_fold(Sum, 0, Ref)),
    ?assertEqual({ok, none}, py:await(Call)),
    receive
        {'DOWN', Monitor, process, Stopper, normal} -> ok
    end,
    application:set_env(erlang_python, drain_timeout, soon),
    ?assertMatch({error, {{badopt, {drain_timeout, soon}}, _}}, application:start(erlang_python)).

-spec stop_a_supervisor_in_order(ct_suite:ct_config()) -> term().
stop_a_supervisor_in_order(_Config) ->
    application:set_env(erlang_python, drain_timeout, 10000),
    {ok, Sup} = start([py:pool_spec(mine, #{workers => 1})]),
    Call = py:spawn_call(time, sleep, [0.5], #{}, #{pool => mine}),
    await_calls(1),
    ok = stop(Sup),
    ?assertEqual({ok, none}, py:await(Call)).

%%% Metrics.

-spec counters_of_pools_and_workers(ct_suite:ct_config()) -> term().
counters_of_pools_and_workers(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    ?assertEqual(
        #{requests => 0, streams => 0, values => 0, bytes => 0, errors => #{}, timeouts => 0, cancels => 0, restarts => #{}, waits => 0},
        counters()
    ),
    {ok, 2} = eval("1 + 1"),
    {ok, [0, 1, 2]} = py:stream(builtins, range, [3], #{}, #{pool => mine}),
    {error, {'ZeroDivisionError', _}} = eval("1 / 0"),
    {error, {'Own', _}} = eval("(_ for _ in ()).throw(type('Own', (Exception,), {})())"),
    {error, timeout} = py:call(time, sleep, [10], #{}, #{pool => mine, timeout => 50}),
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => mine, demand => 1}),
    {ok, 0} = py:stream_next(Ref),
    ok = py:stream_cancel(Ref, [flush]),
    ok = py:await(py:spawn_call(time, sleep, [10], #{}, #{pool => mine}), 50) =:= {error, timeout} andalso ok,
    ok = exec("pass"),
    test_eventually:equal(2, fun() -> maps:get(cancels, counters()) end),
    #{bytes := Bytes} = Counters = counters(),
    ?assertMatch(
        #{
            requests := 8, streams := 2, values := 4, timeouts := 1, cancels := 2,
            errors := #{'ZeroDivisionError' := 1, 'Own' := 1}
        },
        Counters
    ),
    ?assert(Bytes > 50),
    #{workers := [#{counters := Own}]} = py:info(mine),
    ?assertMatch(#{requests := 8, streams := 2, values := 4, errors := 2, timeouts := 1, cancels := 2, bytes := Bytes}, Own).

%% For a worker, and in it for a thread, a slot, or the main thread.
-spec requests_that_wait(ct_suite:ct_config()) -> term().
requests_that_wait(_Config) ->
    register(?MODULE, self()),
    load_telemetry(),
    try
        {ok, _} = py:start_pool(mine, #{workers => 1, max_threads => 1}),
        {ok, 1} = eval("1"),
        #{workers := [#{os_pid := OsPid}]} = py:info(mine),
        Streams = [element(2, py:stream_start(itertools, repeat, [7], #{pool => mine, demand => 0})) || _ <- [1, 2, 3]],
        test_eventually:equal(2, fun() -> maps:get(waits, counters()) end),
        [py:stream_cancel(Ref, [flush]) || Ref <- Streams],
        signal(OsPid, "KILL"),
        test_eventually:equal([], fun() -> maps:get(workers, py:info(mine)) end),
        {ok, 1} = eval("1"),
        #{waits := Waits} = counters(),
        ?assert(Waits >= 3),
        Times = [Time || {[erlang_python, call, stop], #{queue_time := Time}, _} <- events([])],
        ?assertMatch([0, Long] when Long > 0, Times),
        {ok, _} = py:start_pool(main, #{workers => 1, thread => main}),
        Calls = [py:spawn_call(time, sleep, [0.1], #{}, #{pool => main}) || _ <- [1, 2, 3]],
        [{ok, none} = py:await(Call) || Call <- Calls],
        test_eventually:equal(2, fun() -> maps:get(waits, maps:get(counters, py:info(main))) end),
        ?assertMatch({_, _}, binary:match(py_prometheus:format(), <<"erlang_python_waits_total{pool=\"main\"} 2">>))
    after
        code:purge(telemetry),
        code:delete(telemetry),
        unregister(?MODULE)
    end.

-spec counters_outlive_workers(ct_suite:ct_config()) -> term().
counters_outlive_workers(_Config) ->
    {ok, Manager} = py:start_pool(mine, #{workers => 1}),
    {ok, 1} = eval("1"),
    {error, {worker_exit, {signal, 9}}} = eval("__import__('os').kill(__import__('os').getpid(), 9)"),
    test_eventually:equal({ok, 1}, fun() -> eval("1") end),
    #{requests := Requests} = counters(),
    ?assert(Requests >= 3),
    ?assertMatch(#{errors := #{worker_exit := _}, restarts := #{{signal, 9} := 1}}, counters()),
    ok = py:restart_workers(mine),
    exit(Manager, kill),
    test_eventually:equal({ok, 1}, fun() -> eval("1") end),
    #{requests := After} = counters(),
    ?assert(After > Requests),
    ok = py:stop_pool(mine),
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    ?assertMatch(#{requests := 0, errors := Errors} when Errors =:= #{}, counters()).

-spec classes_are_bounded(ct_suite:ct_config()) -> term().
classes_are_bounded(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    [
        {error, {_, _}} = eval(io_lib:format("(_ for _ in ()).throw(type('Own~b', (Exception,), {})())", [N]))
     || N <- lists:seq(1, 60)
    ],
    #{errors := Errors} = counters(),
    ?assert(map_size(Errors) =< 21),
    ?assertEqual(60, lists:sum(maps:values(Errors))),
    ?assertMatch(#{other := 40}, Errors).

%% What runs is listed with its start, the oldest first; what has ended, or whose caller was killed, is not.
-spec requests_under_way(ct_suite:ct_config()) -> term().
requests_under_way(_Config) ->
    application:set_env(erlang_python, liveness_ms, 100),
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    Before = erlang:system_time(millisecond),
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => mine, demand => 1}),
    test_eventually:equal(1, fun() -> length(running()) end),
    {Caller, Monitor} = spawn_monitor(fun() -> py:eval("__import__('time').sleep(5)", #{}, #{pool => mine}) end),
    test_eventually:equal(2, fun() -> length(running()) end),
    [#{kind := stream, module := <<"itertools">>, function := <<"count">>, ref := Ref, since := Since}, Call] = running(),
    ?assert(Since >= Before - 1 andalso Since =< erlang:system_time(millisecond)),
    ?assertMatch(#{kind := eval, function := <<"__import__('time').sleep(5)">>, age := Age} when Age >= 100, Call),
    exit(Caller, kill),
    receive
        {'DOWN', Monitor, process, Caller, killed} -> ok
    end,
    ok = py:stream_cancel(Ref, [flush]),
    test_eventually:equal([], fun running/0).

-spec a_page_for_prometheus(ct_suite:ct_config()) -> term().
a_page_for_prometheus(_Config) ->
    {ok, _} = py:start_pool('a "pool"', #{workers => 1}),
    {ok, _} = py:start_pool(mine, #{workers => 2}),
    {ok, 1} = eval("1"),
    {error, _} = eval("1 / 0"),
    Lines = binary:split(py_prometheus:format(), <<"\n">>, [global, trim]),
    [
        ?assert(lists:member(Line, Lines), Line)
     || Line <- [
            <<"# TYPE erlang_python_requests_total counter">>,
            <<"erlang_python_requests_total{pool=\"mine\"} 2">>,
            <<"erlang_python_workers{pool=\"mine\"} 2">>,
            <<"erlang_python_workers{pool=\"a \\\"pool\\\"\"} 1">>,
            <<"erlang_python_errors_total{pool=\"mine\",class=\"ZeroDivisionError\"} 1">>
        ]
    ],
    %% Each line is a comment or a sample, and each name is declared once.
    Sample = "^(# (HELP|TYPE) erlang_python_\\w+ .+|erlang_python_\\w+\\{.*\\} [0-9.]+)$",
    [?assertMatch({match, _}, re:run(Line, Sample), Line) || Line <- Lines],
    Types = [Line || <<"# TYPE", _/binary>> = Line <- Lines],
    ?assertEqual(length(Types), length(lists:usort(Types))).

%% The events are those of the page, each with the keys that it has there.
-spec events_of_telemetry(ct_suite:ct_config()) -> term().
events_of_telemetry(_Config) ->
    register(?MODULE, self()),
    load_telemetry(),
    try
        {ok, _} = py:start_pool(mine, #{workers => 1}),
        {ok, _} = call(os, getpid),
        {error, _} = eval("1 / 0"),
        ok = exec("pass"),
        {ok, [0]} = py:stream(builtins, range, [1], #{}, #{pool => mine}),
        {error, _} = py:stream(builtins, iter, [1], #{}, #{pool => mine}),
        ok = py:restart_workers(mine),
        test_eventually:true(fun() -> lists:keymember([erlang_python, worker, stop], 1, events([])) end),
        [OsPid] = os_pids(),
        signal(OsPid, "KILL"),
        test_eventually:true(fun() -> lists:keymember([erlang_python, worker, exception], 1, events([])) end),
        ok = py:stop_pool(mine),
        Seen = events([]),
        Page = table_of_events(),
        ?assertEqual(lists:sort(maps:keys(Page)), lists:usort([Name || {Name, _, _} <- Seen])),
        [
            ?assertEqual({Name, maps:get(Name, Page)}, {Name, {lists:sort(maps:keys(Measured)), lists:sort(maps:keys(Meta))}})
         || {Name, Measured, Meta} <- Seen
        ],
        Calls = [{Measured, Meta} || {[erlang_python, call, stop], Measured, Meta} <- Seen],
        [{#{duration := Duration}, #{pool := mine, module := <<"os">>, function := <<"getpid">>, kind := call, result := ok}}] =
            [Call || Call = {_, #{function := <<"getpid">>}} <- Calls],
        ?assert(Duration > 0),
        ?assert(lists:any(fun({_, #{kind := Kind}}) -> Kind =:= exec end, Calls)),
        [#{reason := {'ZeroDivisionError', _}, ref := Ref, telemetry_span_context := Ref}] =
            [Meta || {[erlang_python, call, exception], _, Meta} <- Seen]
    after
        code:purge(telemetry),
        code:delete(telemetry),
        unregister(?MODULE)
    end.

%% A telemetry that sends its events to the test.
load_telemetry() ->
    Send = "execute(Event, Measurements, Metadata) -> " ++ atom_to_list(?MODULE) ++ " ! {event, {Event, Measurements, Metadata}}, ok.",
    Forms = [
        begin
            {ok, Tokens, _} = erl_scan:string(Text),
            {ok, Form} = erl_parse:parse_form(Tokens),
            Form
        end
     || Text <- ["-module(telemetry).", "-export([execute/3]).", Send]
    ],
    {ok, telemetry, Code} = compile:forms(Forms),
    {module, telemetry} = code:load_binary(telemetry, "telemetry.beam", Code).

%% All that have come; they stay for the next time.
events(Found) ->
    receive
        {event, Event} -> events([Event | Found])
    after 50 ->
        [self() ! {event, Event} || Event <- lists:reverse(Found)],
        lists:reverse(Found)
    end.

table_of_events() ->
    {ok, Page} = file:read_file(filename:join(test_program:root(), "docs/operations.md")),
    {match, Rows} = re:run(Page, "^\\| `(\\[erlang_python, .*?\\])` \\| (.*?) \\| (.*?) \\|$", [global, multiline, {capture, [1, 2, 3], list}]),
    lists:foldl(
        fun([Name, Measured, Meta], Table) ->
            {ok, Tokens, _} = erl_scan:string(Name ++ "."),
            {ok, Event} = erl_parse:parse_term(Tokens),
            Start = lists:droplast(Event) ++ [start],
            Inherited =
                case Meta of
                    "those of a call" ++ _ -> element(2, maps:get([erlang_python, call, start], Table));
                    "those of start" ++ _ -> element(2, maps:get(Start, Table));
                    _ -> []
                end,
            Table#{Event => {keys(Measured), lists:usort(Inherited ++ keys(Meta))}}
        end,
        #{},
        Rows
    ).

keys(Text) ->
    case re:run(Text, "`(\\w+)`", [global, {capture, [1], list}]) of
        {match, Names} -> lists:usort([list_to_atom(Name) || [Name] <- Names]);
        nomatch -> []
    end.

counters() ->
    maps:get(counters, py:info(mine)).

running() ->
    #{workers := [#{running := Running}]} = py:info(mine),
    Running.

%%% Metadata, logs and names.

-define(TRACE, <<"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01">>).

-spec metadata_is_there_in_python(ct_suite:ct_config()) -> term().
metadata_is_there_in_python(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    ok = exec(
        "import erlang, asyncio\n"
        "def now(*args, **kwargs): return erlang.metadata()\n"
        "async def later(*args):\n"
        "    await asyncio.sleep(0)\n"
        "    return await asyncio.to_thread(erlang.metadata)\n"
        "def each():\n"
        "    yield erlang.metadata()\n"
        "async def aeach():\n"
        "    await asyncio.sleep(0)\n"
        "    yield erlang.metadata()\n"
        "def echo(*args, **kwargs): return [args, kwargs]\n"
    ),
    #{workers := [#{pid := Worker}]} = py:info(mine),
    Opts = #{pool => mine, metadata => #{traceparent => ?TRACE, <<"n">> => 1}},
    Check = fun(Function, Metadata) ->
        ?assertMatch(
            #{
                <<"traceparent">> := ?TRACE,
                <<"n">> := 1,
                <<"pool">> := mine,
                <<"worker">> := Worker,
                <<"request">> := #{<<"module">> := <<"__main__">>, <<"function">> := Function, <<"reference">> := Ref}
            } when is_reference(Ref),
            maps:from_list([{if is_atom(K) -> atom_to_binary(K); true -> K end, V} || {K, V} <- maps:to_list(Metadata)])
        )
    end,
    {ok, Now} = py:call('__main__', now, [1, <<"a">>], #{k => 1}, Opts),
    Check(<<"now">>, Now),
    {ok, Later} = py:call('__main__', later, [], #{}, Opts),
    Check(<<"later">>, Later),
    {ok, [Each]} = py:stream('__main__', each, [], #{}, Opts),
    Check(<<"each">>, Each),
    {ok, [AEach]} = py:stream('__main__', aeach, [], #{}, Opts),
    Check(<<"aeach">>, AEach),
    {ok, Spawned} = py:await(py:spawn_call('__main__', now, [], #{}, Opts)),
    Check(<<"now">>, Spawned),
    {ok, Evaluated} = py:eval("erlang.metadata()", #{}, Opts),
    Check(<<"erlang.metadata()">>, Evaluated),
    {ok, Ref} = py:stream_start('__main__', each, [], Opts),
    {ok, Started} = py:stream_next(Ref),
    #{<<"reference">> := Ref} = maps:get(<<"request">>, Started),
    %% Arguments are as ever, and without the option there is none.
    {ok, [{1, <<"a">>, [2]}, #{<<"k">> := #{x := 1}}]} =
        py:call('__main__', echo, [1, <<"a">>, [2]], #{k => #{x => 1}}, Opts#{binaries => str}),
    {ok, Without} = py:call('__main__', now, [], #{}, #{pool => mine}),
    ?assertEqual([<<"pool">>, <<"request">>, <<"worker">>], lists:sort(maps:keys(Without))),
    ?assertError({badopt, {metadata, none}}, py:call('__main__', now, [], #{}, #{pool => mine, metadata => none})).

%% With opentelemetry installed, here a stand-in for it, the trace is current in the request.
-spec a_trace_is_continued(ct_suite:ct_config()) -> term().
a_trace_is_continued(Config) ->
    Dir = folder(Config, "traces"),
    ok = filelib:ensure_path(filename:join(Dir, "opentelemetry")),
    write(Dir, "opentelemetry/__init__.py", ""),
    write(Dir, "opentelemetry/propagate.py", "def extract(carrier): return dict(carrier)"),
    write(
        Dir,
        "opentelemetry/context.py",
        "from contextvars import ContextVar\ncurrent = ContextVar('trace', default=None)\n"
        "def attach(context): return current.set(context)\n"
        "def get(): return current.get()\n"
    ),
    {ok, _} = py:start_pool(mine, #{workers => 1, python_path => [Dir]}),
    Opts = #{pool => mine, metadata => #{traceparent => ?TRACE}},
    ?assertEqual({ok, #{<<"traceparent">> => ?TRACE}}, py:call('opentelemetry.context', get, [], #{}, Opts)),
    ?assertEqual({ok, none}, py:call('opentelemetry.context', get, [], #{}, #{pool => mine})),
    %% Where it is not installed nothing happens.
    {ok, _} = py:start_pool(other, #{workers => 1}),
    ?assertEqual({ok, 2.0}, py:call(math, sqrt, [4], #{}, Opts#{pool => other})).

-spec log_records_say_where_they_are_from(ct_suite:ct_config()) -> term().
log_records_say_where_they_are_from(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    ok = exec(
        "import logging\n"
        "def warn():\n"
        "    logging.getLogger('shop').warning('sold %d', 3, extra={'level': 7, 'order': {'a': [1]}, 'odd': object()})\n"
        "def warn_each():\n"
        "    warn()\n"
        "    yield 1\n"
    ),
    #{workers := [#{pid := Worker, os_pid := OsPid}]} = py:info(mine),
    listen(),
    {ok, none} = py:call('__main__', warn, [], #{}, #{pool => mine, metadata => #{traceparent => ?TRACE}}),
    #{meta := Meta} = logged(fun(#{msg := Msg}) -> Msg =:= {string, <<"sold 3">>} end),
    ?assertMatch(
        #{
            pool := mine,
            worker := Worker,
            os_pid := OsPid,
            request := #{module := <<"__main__">>, function := <<"warn">>, reference := Ref},
            metadata := #{traceparent := ?TRACE},
            order := #{<<"a">> := [1]},
            odd := <<"<object ", _/binary>>,
            level := 7,
            python_logger := <<"shop">>,
            domain := [erlang_python, python]
        } when is_reference(Ref),
        maps:merge(Meta, maps:from_list([{binary_to_atom(K), V} || {K, V} <- maps:to_list(Meta), is_binary(K)]))
    ),
    {ok, [1]} = py:stream('__main__', warn_each, [], #{}, #{pool => mine}),
    #{meta := InStream} = logged(fun(#{msg := Msg}) -> Msg =:= {string, <<"sold 3">>} end),
    ?assertMatch(#{request := #{function := <<"warn_each">>, reference := _}}, InStream),
    %% So do ours, which other loggers print as sentences.
    signal(OsPid, "KILL"),
    #{meta := Ours, msg := {report, Report}} = logged(fun(#{msg := Msg}) ->
        is_report(Msg, "a Python worker ended and is restarted")
    end),
    ?assertMatch(#{pool := mine, worker := Worker, os_pid := OsPid, domain := [erlang_python], report_cb := _}, Ours),
    {Format, Args} = (maps:get(report_cb, Ours))(Report),
    ?assertEqual(
        "a Python worker ended and is restarted (pool: mine, status: {signal,9})",
        lists:flatten(io_lib:format(Format, Args))
    ).

%% What configures logging anew does not take the way to the node away.
-spec the_way_to_the_log_stays(ct_suite:ct_config()) -> term().
the_way_to_the_log_stays(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    listen(),
    [
        begin
            ok = py:exec(["import logging, logging.config\n", Code, "\nlogging.warning('still here')"], #{pool => mine}),
            _ = logged(fun(#{msg := Msg}) -> Msg =:= {string, <<"still here">>} end)
        end
     || Code <- [
            "logging.basicConfig(force=True)",
            "logging.config.dictConfig({'version': 1, 'root': {'level': 'INFO', 'handlers': []}})"
        ]
    ].

%% The node gets records from when `logging' is there, from its level on; and the module is as it is otherwise.
-spec logging_is_imported_late(ct_suite:ct_config()) -> term().
logging_is_imported_late(_Config) ->
    Finders = "[type(f).__module__ for f in __import__('sys').meta_path].count('erlang_port.node.logs')",
    Loader = "type(__import__('sys').modules['logging'].__spec__.loader).__module__",
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    ?assertEqual({ok, 1}, eval(Finders)),
    listen(),
    {ok, none} = py:call(logging, info, [<<"too low">>], #{}, #{pool => mine}),
    {ok, none} = py:call(logging, warning, [<<"late">>], #{}, #{pool => mine}),
    #{level := warning} = logged(fun(#{msg := {string, Text}}) -> ?assertEqual(<<"late">>, Text) =:= ok; (_) -> false end),
    ?assertEqual({ok, 0}, eval(Finders)),
    ?assertNotMatch({ok, <<"erlang_port", _/binary>>}, eval(Loader)),
    %% A node that wants to see failures has them from the first one.
    #{level := Level} = logger:get_primary_config(),
    Levels = "[h.level for h in getattr(getattr(__import__('sys').modules.get('logging'), 'root', None), 'handlers', ())]",
    {ok, _} = py:start_pool(other, #{workers => 1}),
    ?assertEqual({ok, []}, py:eval(Levels, #{}, #{pool => other})),
    ok = logger:set_primary_config(level, debug),
    try
        test_eventually:equal({ok, [10]}, fun() -> py:eval(Levels, #{}, #{pool => other}) end),
        {error, _} = py:call(math, sqrt, [-1], #{}, #{pool => other}),
        _ = logged(fun(#{msg := {string, <<"a request failed", _/binary>>}}) -> true; (_) -> false end)
    after
        ok = logger:set_primary_config(level, Level)
    end.

-spec a_failed_cast_is_named(ct_suite:ct_config()) -> term().
a_failed_cast_is_named(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    listen(),
    ok = py:cast(math, sqrt, [-1], #{}, #{pool => mine}),
    #{workers := [#{pid := Worker, os_pid := OsPid}]} = py:info(mine),
    #{msg := {report, Report}, meta := Meta} = logged(fun(#{msg := Msg}) -> is_report(Msg, "a py:cast failed") end),
    ?assertMatch(#{module := <<"math">>, function := <<"sqrt">>, pool := mine}, Report),
    ?assertMatch(
        #{
            pool := mine, worker := Worker, os_pid := OsPid,
            request := #{module := <<"math">>, function := <<"sqrt">>, reference := _}
        },
        Meta
    ),
    ok = py:cast(math, sqrt, [-1], #{}, #{pool => nowhere}),
    #{msg := {report, Nowhere}} = logged(fun(#{msg := Msg}) -> is_report(Msg, "a py:cast failed") end),
    ?assertMatch(#{module := math, function := sqrt, pool := nowhere}, Nowhere).

%% `ps' and `top' show the pool's name, and so does observer where processes have labels.
-spec processes_have_names(ct_suite:ct_config()) -> term().
processes_have_names(_Config) ->
    {ok, Manager} = py:start_pool(mine, #{workers => 1}),
    [OsPid] = os_pids(),
    ?assertMatch({_, _}, binary:match(list_to_binary(os:cmd("ps -o args= -p " ++ integer_to_list(OsPid))), <<" mine">>)),
    ?assertEqual("py:mine\n", os:cmd("ps -o comm= -p " ++ integer_to_list(OsPid))),
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => mine, demand => 0}),
    Call = py:spawn_call(time, sleep, [30], #{}, #{pool => mine}),
    {ok, In} = py:channel(),
    case erlang:function_exported(proc_lib, get_label, 1) of
        true ->
            Labels = [apply(proc_lib, get_label, [Pid]) || Pid <- processes()],
            Wanted =
                [{manager, mine}, {worker, mine}, {output, mine}, {delivery, mine}, {channel, self()}] ++
                    [{stream, {<<"itertools">>, <<"count">>}}, {call, {<<"time">>, <<"sleep">>}}],
            ?assertEqual([], [{erlang_python, What, Of} || {What, Of} <- Wanted] -- Labels),
            ?assertEqual({erlang_python, manager, mine}, apply(proc_lib, get_label, [Manager]));
        false ->
            ok
    end,
    ok = py:channel_close(In),
    ok = py:stream_cancel(Ref, [flush]),
    {error, timeout} = py:await(Call, 0).

listen() ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}).

%% Of the handler.
-spec log(logger:log_event(), logger:handler_config()) -> term().
log(Event, #{config := To}) ->
    To ! {logged, Event}.

logged(Is) ->
    receive
        {logged, Event} ->
            case Is(Event) of
                true -> Event;
                false -> logged(Is)
            end
    end.

is_report({report, #{text := Text}}, Wanted) -> Text =:= Wanted;
is_report(_, _) -> false.

%%% Helpers.

-spec init([supervisor:child_spec()]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Specs) ->
    {ok, {#{intensity => 5}, Specs}}.

start(Specs) ->
    supervisor:start_link(?MODULE, Specs).

stop(Sup) ->
    exit(Sup, shutdown),
    receive
        {'EXIT', Sup, shutdown} -> ok
    end.

call(M, F) ->
    py:call(M, F, [], #{}, #{pool => mine}).

eval(Code) ->
    py:eval(Code, #{}, #{pool => mine}).

exec(Code) ->
    py:exec(Code, #{pool => mine}).

signal(OsPid, Name) ->
    "" = os:cmd("kill -" ++ Name ++ " " ++ integer_to_list(OsPid)).

os_pids() ->
    lists:sort([OsPid || #{os_pid := OsPid} <- maps:get(workers, py:info(mine))]).


await_calls(N) ->
    test_eventually:true(fun() -> lists:sum([Calls || #{calls := Calls} <- maps:get(workers, py:info(mine))]) =:= N end).

%% Does something again and again, linked to the test, until `unload/1' asks how often.
load(Fun) ->
    spawn_link(fun() -> load(Fun, 0) end).

load(Fun, N) ->
    receive
        {stop, From} -> From ! {self(), N}
    after 0 ->
        Fun(),
        load(Fun, N + 1)
    end.

unload(Pid) ->
    Pid ! {stop, self()},
    receive
        {Pid, N} -> N;
        {'EXIT', Pid, Reason} when Reason =/= normal -> error(Reason)
    end.

folder(Config, Name) ->
    Dir = filename:join(?config(priv_dir, Config), Name),
    ok = filelib:ensure_path(Dir),
    Dir.

%% Compiled code counts seconds, and sizes: another size is another file.
write(Dir, Name, Text) ->
    ok = file:write_file(filename:join(Dir, Name), Text).
