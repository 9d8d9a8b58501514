%% @doc Streams while workers die all the time, see test_chaos. The OS variable CHAOS says for
%% how many seconds.
-module(py_chaos_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1]).
-export([chaos/1]).

-define(SECONDS, "8").
%% What memory may differ by, however long it takes, in bytes. Python processes are new ones.
-define(NODE_BYTES, 8 * 1024 * 1024).
-define(PYTHON_BYTES, 32 * 1024 * 1024).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {seconds, 60 + 2 * seconds()}}].

-spec all() -> [atom()].
all() ->
    [chaos].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    Sources = filename:join(filename:dirname(filename:absname(?config(data_dir, Config))), "py_model_SUITE_data"),
    Pool = #{workers => 2, python_path => [Sources]},
    ok = application:set_env(erlang_python, pools, #{default => Pool}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

%% With 50 streams at all times and a death every 200 ms, each stream has its values in
%% order and one end, and what dies is there again.
-spec chaos(ct_suite:ct_config()) -> {comment, string()}.
chaos(_Config) ->
    Figures = test_chaos:run(#{milliseconds => 1000 * seconds(), streams => 50, every => 200}),
    ct:pal("~b seconds of chaos: ~p", [seconds(), Figures]),
    #{started := Started, killed := Killed, worker_exit := Exits, done := Done} = Figures,
    ?assertMatch(#{lost := 0, doubled := 0}, Figures),
    ?assertEqual([], [Wrong || Wrong = {wrong, _} <- maps:keys(Figures)]),
    %% It was chaos, and work was done all the same.
    ?assert(Killed >= seconds()),
    ?assert(Exits >= Killed),
    ?assert(Done > 50),
    %% Each has one end.
    ?assertEqual(Started, Done + Exits + maps:get(cancelled, Figures, 0)),
    #{memory_before := Before, memory_after := After} = Figures,
    ?assert(maps:get(node, After) < maps:get(node, Before) + ?NODE_BYTES),
    ?assert(maps:get(python, After) < maps:get(python, Before) + ?PYTHON_BYTES),
    {comment, lists:flatten(io_lib:format("~p", [Figures]))}.

seconds() ->
    list_to_integer(os:getenv("CHAOS", ?SECONDS)).
