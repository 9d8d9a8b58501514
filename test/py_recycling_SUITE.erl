%% @doc Workers that are replaced, by request, by a limit, or because code has changed: the new one first.
-module(py_recycling_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([
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
    limits_are_spread/1
]).

-import(test_files, [folder/2, write/3]).
-import(test_mine, [call/2, eval/1, exec/1, os_pids/0]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
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
    ].

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    ok = test_mine:start_application(),
    process_flag(trap_exit, true),
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    test_mine:stop_application().

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

%% It returns, even if there is always a worker that is about to be replaced.
-spec restart_workers_that_are_recycled(ct_suite:ct_config()) -> term().
restart_workers_that_are_recycled(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 2, max_requests => 1}),
    Before = os_pids(),
    Loads = [load(fun() -> {ok, 2} = eval("1 + 1") end) || _ <- [1, 2]],
    ok = py:restart_workers(mine),
    ?assertEqual([], [OsPid || OsPid <- os_pids(), lists:member(OsPid, Before)]),
    [unload(Load) || Load <- Loads].

%% If the first new one cannot start, the reason is returned and the old ones stay.
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
            [test_os_process:signal(OsPid, "KILL") || OsPid <- os_pids()],
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

%%% Helpers.

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
