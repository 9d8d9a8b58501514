%% @doc Interrupts leave Python whole: code that was broken off leaves no module half made,
%% no lock locked and no clean-up undone, and ends.
-module(py_interrupt_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([
    an_import_is_whole/1,
    locks_are_free/1,
    finalizers_are_not_broken_off/1,
    code_that_prints_ends/1,
    a_clean_up_has_its_time/1,
    an_async_clean_up_has_its_time/1,
    the_next_interrupt_comes_after_the_grace/1
]).

-define(LONG, 10000).
-define(ROUNDS, 15).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 5}}].

-spec all() -> [atom()].
all() ->
    [
        an_import_is_whole,
        locks_are_free,
        finalizers_are_not_broken_off,
        code_that_prints_ends,
        a_clean_up_has_its_time,
        an_async_clean_up_has_its_time,
        the_next_interrupt_comes_after_the_grace
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    Pool = #{workers => 1, interrupt_after => 10, python_path => [?config(data_dir, Config)]},
    ok = application:set_env(erlang_python, pools, #{
        default => Pool, impatient => Pool#{interrupt_grace => 50}
    }),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

%% The call that timed out while it imported, and every later one.
-spec an_import_is_whole(ct_suite:ct_config()) -> ok.
an_import_is_whole(_Config) ->
    ?assertEqual({error, timeout}, py:call(slow_models, fine, [], #{}, 100)),
    ?assertEqual({ok, <<"fine">>}, py:call(slow_models, fine, [])),
    ?assertEqual({ok, [<<"users">>]}, py:eval("sorted(__import__('registry').names)")).

%% What was in use when it was broken off can be used afterwards.
-spec locks_are_free(ct_suite:ct_config()) -> ok.
locks_are_free(_Config) ->
    [
        begin
            break_off(Function),
            ?assertEqual({Function, {ok, none}}, {Function, py:call(stubborn, Function, [5], #{}, ?LONG)})
        end
     || Function <- [queues, semaphores, conditions], _ <- lists:seq(1, ?ROUNDS)
    ],
    ?assertEqual({ok, 2}, py:eval("__import__('stubborn').semaphore._value")).

%% CPython prints what is raised there, and goes on as if nothing had happened.
-spec finalizers_are_not_broken_off(ct_suite:ct_config()) -> ok.
finalizers_are_not_broken_off(_Config) ->
    ok = py:exec(
        "import sys, gc, stubborn\n"
        "unraisable = []\n"
        "sys.unraisablehook = lambda found: unraisable.append(repr(found.exc_value))\n"
        "gc.callbacks.append(stubborn.slow_callback)\n",
        #{replay => false}
    ),
    [break_off(Function) || Function <- [finalizers, collections], _ <- lists:seq(1, ?ROUNDS)],
    ok = py:exec("gc.callbacks.remove(stubborn.slow_callback)", #{replay => false}),
    ?assertEqual({ok, []}, py:eval("unraisable")).

-spec code_that_prints_ends(ct_suite:ct_config()) -> ok.
code_that_prints_ends(_Config) ->
    [break_off(prints) || _ <- lists:seq(1, ?ROUNDS)],
    ?assertEqual({ok, none}, py:call(stubborn, prints, [3])).

%% Longer than several times `interrupt_after'.
-spec a_clean_up_has_its_time(ct_suite:ct_config()) -> ok.
a_clean_up_has_its_time(_Config) ->
    break_off_begun(cleans_up, [0.4], #{}),
    idle(default),
    ?assertEqual({ok, [<<"cleaned up">>]}, py:call(stubborn, take_notes, [])).

-spec an_async_clean_up_has_its_time(ct_suite:ct_config()) -> ok.
an_async_clean_up_has_its_time(_Config) ->
    break_off_begun(cleans_up_async, [0.4], #{}),
    idle(default),
    ?assertEqual({ok, [<<"cleaned up">>]}, py:call(stubborn, take_notes, [])).

%% Code that swallows one gets another, and so does a clean-up that takes too long.
-spec the_next_interrupt_comes_after_the_grace(ct_suite:ct_config()) -> ok.
the_next_interrupt_comes_after_the_grace(_Config) ->
    Opts = #{pool => impatient},
    break_off_begun(cleans_up, [3600], Opts),
    idle(impatient),
    ?assertEqual({ok, []}, py:call(stubborn, take_notes, [], #{}, Opts)),
    break_off_begun(never_ends, [], Opts),
    test_eventually:true(fun() ->
        {ok, Caught} = py:eval("len(__import__('stubborn').notes)", #{}, Opts),
        Caught >= 3
    end).

%%% What the cases share.

break_off(Function) ->
    ?assertEqual({error, timeout}, py:call(stubborn, Function, [], #{}, 5)),
    idle(default).

%% The caller is killed once its code runs.
break_off_begun(Function, Args, Opts) ->
    Self = self(),
    Caller = spawn(fun() -> py:call(stubborn, Function, [Self | Args], #{}, Opts) end),
    receive
        <<"begun">> -> exit(Caller, kill)
    after ?LONG -> error({not_begun, Function})
    end.

%% Python runs nothing any more.
idle(Pool) ->
    test_eventually:true(fun() ->
        #{workers := [#{requests := Requests}]} = py:info(Pool),
        Requests =:= 0
    end).
