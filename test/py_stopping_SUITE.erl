%% @doc Pools, applications and supervisors that are stopped in order: what runs ends first.
-module(py_stopping_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([
    stop_a_pool_in_order/1,
    stop_the_application_in_order/1,
    stop_a_supervisor_in_order/1
]).

-import(test_mine, [await_calls/1, eval/1]).
-import(test_supervisor, [start/1, stop/1]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        stop_a_pool_in_order,
        stop_the_application_in_order,
        stop_a_supervisor_in_order
    ].

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    ok = test_mine:start_application(),
    process_flag(trap_exit, true),
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    test_mine:stop_application().

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
