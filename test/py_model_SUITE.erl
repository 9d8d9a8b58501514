%% @doc Random commands against the model of streams and calls, see test_model, and some lists
%% that are rarely made at random.
%%
%% The OS variable MODEL_LISTS says how many lists of commands are tried, MODEL_SEED from
%% which seed on: list I of a run is made from the seed and I.
-module(py_model_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1]).
-export([random_commands/1, commands_by_hand/1, shrinking/1]).

-define(SEED, "2026").
-define(LISTS, "60").
-define(LONGEST, 40).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 5 + lists_to_try() div 10}}].

-spec all() -> [atom()].
all() ->
    [shrinking, commands_by_hand, random_commands].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    Pool = #{workers => 2, python_path => [?config(data_dir, Config)], interrupt_after => 50},
    ok = application:set_env(erlang_python, pools, #{default => Pool}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

%% Whatever is done in whatever order, each stream and each call has one end, which is one
%% that its story allows; values come in order, none after the end; and nothing is left.
-spec random_commands(ct_suite:ct_config()) -> ok.
random_commands(_Config) ->
    Seed = list_to_integer(os:getenv("MODEL_SEED", ?SEED)),
    ct:pal("~b lists of commands of seed ~b", [lists_to_try(), Seed]),
    lists:foreach(fun(I) -> try_list(Seed, I) end, lists:seq(1, lists_to_try())).

try_list(Seed, I) ->
    _ = rand:seed(exsss, {Seed, I, 0}),
    Commands = test_model:commands(rand:uniform(?LONGEST)),
    case test_model:run(Commands) of
        ok ->
            ok;
        {broken, Why} ->
            ct:pal("list ~b of seed ~b:~n~p~n~p", [I, Seed, Why, Commands]),
            Fewer = test_model:shrink(Commands, fun fails/1),
            ct:fail("list ~b of seed ~b: ~p~nshrunk: ~p", [I, Seed, Why, Fewer])
    end.

%% Not every list that leads to it does so every time.
fails(Commands) ->
    lists:any(
        fun(_) ->
            ok = application:stop(erlang_python),
            ok = application:start(erlang_python),
            test_model:run(Commands) =/= ok
        end,
        [1, 2, 3]
    ).

lists_to_try() ->
    list_to_integer(os:getenv("MODEL_LISTS", ?LISTS)).

%% The same for lists that are rarely made at random.
-spec commands_by_hand(ct_suite:ct_config()) -> ok.
commands_by_hand(_Config) ->
    [?assertEqual({ok, Commands}, {test_model:run(Commands), Commands}) || Commands <- by_hand()],
    ok.

by_hand() ->
    Start = fun(Kind, N, Opts) -> {start, Kind, N, Opts, owner} end,
    Each = fun(Command) -> [{Command, I} || I <- lists:seq(1, 20)] end,
    Fast = lists:duplicate(10, Start(forever, 0, #{window => 100})),
    [
        %% Many streams at full speed take turns in reading for all of them.
        Fast ++ [{read, I, 500} || _ <- [1, 2, 3], I <- lists:seq(1, 20)] ++ Each(flush),
        %% All that may be on its way when the workers die, both at once, or the pool.
        Fast ++ [{kill_worker, 1}, {kill_worker, 2}] ++ Fast ++ [heal | Fast] ++ [restart_pool | Fast],
        %% As many as were demanded, and the end is still to come.
        [Start(count, 3, #{demand => 3}), {read, 1, 10}, Start(acount, 3, #{demand => 3}), {read, 1, 10}],
        %% What never yields again is cancelled, timed out, and loses its owner.
        [
            Start(stuck, 1, #{}),
            Start(astuck, 1, #{}),
            {cancel, 0},
            {flush, 1},
            Start(stuck, 1, #{timeout => 5}),
            Start(astuck, 1, #{timeout => 5}),
            {read, 2, 10},
            Start(stuck, 0, #{}),
            {kill_owner, 4}
        ]
    ].

%% Shrinking leaves what is needed, in its order, and nothing else.
-spec shrinking(ct_suite:ct_config()) -> ok.
shrinking(_Config) ->
    Needed = [{kill_worker, 1}, {cancel, 2}],
    Fails = fun(Commands) -> [C || C <- Commands, lists:member(C, Needed)] =:= Needed end,
    Commands = [heal, {kill_worker, 1}, heal, {read, 1, 1}, {cancel, 2}, heal, heal],
    Needed = test_model:shrink(Commands, Fails),
    [] = test_model:shrink(Commands, fun(_) -> true end),
    ok.
