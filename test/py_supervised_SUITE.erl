%% @doc Pools under a supervisor of one's own, and a node without pools.
-module(py_supervised_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([
    a_pool_of_an_application/1,
    its_manager_is_killed/1,
    its_supervisor_is_killed/1,
    a_pool_that_cannot_start/1,
    a_supervisor_that_is_stopped_while_it_starts/1,
    a_name_that_is_taken/1,
    without_the_application/1,
    no_pool_at_all/1
]).

-import(test_mine, [call/2, eval/1, exec/1]).
-import(test_supervisor, [start/1, stop/1]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        a_pool_of_an_application,
        its_manager_is_killed,
        its_supervisor_is_killed,
        a_pool_that_cannot_start,
        a_supervisor_that_is_stopped_while_it_starts,
        a_name_that_is_taken,
        without_the_application,
        no_pool_at_all
    ].

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    ok = test_mine:start_application(),
    process_flag(trap_exit, true),
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    test_mine:stop_application().

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

%%% Helpers.

ancestors(Dictionary) ->
    [hd(Ancestors) || {'$ancestors', Ancestors} <- Dictionary, length(Ancestors) =:= 1].
