%% @doc Leaving in order: a pool that is drained takes nothing new and ends what runs.
-module(py_drain_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([
    takes_nothing_new/1,
    what_runs_ends_first/1,
    code_ends_first/1,
    busy_after_the_time/1,
    again_after_resume/1,
    a_manager_is_killed/1,
    a_worker_is_killed/1,
    no_request_is_lost/1,
    a_worker_of_ones_own/1,
    no_such_pool/1,
    wrong_arguments/1
]).

-define(LONG, 10000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        takes_nothing_new,
        what_runs_ends_first,
        code_ends_first,
        busy_after_the_time,
        again_after_resume,
        a_manager_is_killed,
        a_worker_is_killed,
        no_request_is_lost,
        a_worker_of_ones_own,
        no_such_pool,
        wrong_arguments
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    _ = application:load(erlang_python),
    application:set_env(erlang_python, pools, #{}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    application:stop(erlang_python),
    application:unset_env(erlang_python, pools).

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    {ok, _} = py:start_pool(test, #{workers => 2}),
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    _ = py:stop_pool(test),
    ok.

-define(POOL, #{pool => test}).

%% Every way in is closed at once, and says why.
-spec takes_nothing_new(ct_suite:ct_config()) -> ok.
takes_nothing_new(_Config) ->
    ok = py:drain(test, 0),
    ?assertEqual({error, draining}, py:call(builtins, len, [[]], #{}, ?POOL)),
    ?assertEqual({error, draining}, py:eval("1", #{}, ?POOL)),
    ?assertEqual({error, draining}, py:exec("x = 1", ?POOL)),
    ?assertEqual({error, draining}, py:stream_start(builtins, range, [3], ?POOL)),
    ?assertEqual({error, draining}, py:stream(builtins, range, [3], #{}, ?POOL)),
    ?assertEqual({error, draining}, py:stream_eval("range(3)", #{}, ?POOL)),
    ?assertEqual({error, draining}, py:await(py:spawn_call(builtins, len, [[]], #{}, ?POOL))),
    ?assertMatch(#{draining := true, workers := [_, _], journal := 0}, py:info(test)),
    ?assertNotEqual(nomatch, string:find(py:format_error(draining), "resume")),
    test_leftovers:none().

%% A stream and a call that run are let to end, and drain returns when they have.
-spec what_runs_ends_first(ct_suite:ct_config()) -> ok.
what_runs_ends_first(_Config) ->
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => test, take => 5, demand => 1}),
    {ok, 0} = py:stream_next(Ref, ?LONG),
    Call = py:spawn_call(time, sleep, [0.3], #{}, ?POOL),
    {Pid, Monitor} = spawn_monitor(fun() -> exit(py:drain(test, ?LONG)) end),
    test_eventually:equal({error, draining}, fun() -> py:call(builtins, len, [[]], #{}, ?POOL) end),
    {ok, none} = py:await(Call, ?LONG),
    ?assert(is_process_alive(Pid)),
    py:stream_demand(Ref, 10),
    ?assertEqual([1, 2, 3, 4], test_stream_events:rest(Ref)),
    receive
        {'DOWN', Monitor, process, Pid, Result} -> ?assertEqual(ok, Result)
    end.

%% Code that waits for its turn is under way as well.
-spec code_ends_first(ct_suite:ct_config()) -> ok.
code_ends_first(_Config) ->
    Parent = self(),
    Exec = fun(N) ->
        spawn_monitor(fun() ->
            Code = io_lib:format("import time; time.sleep(0.1); x = ~b", [N]),
            Parent ! asked,
            exit(py:exec(Code, ?POOL))
        end)
    end,
    Running = [Exec(N) || N <- lists:seq(1, 3)],
    [
        receive
            asked -> ok
        end
     || _ <- Running
    ],
    test_eventually:equal(true, fun() -> maps:get(journal, py:info(test)) > 0 end),
    ok = py:drain(test, ?LONG),
    Results = [
        receive
            {'DOWN', Monitor, process, Pid, Result} -> Result
        end
     || {Pid, Monitor} <- Running
    ],
    ?assertEqual([], [Result || Result <- Results, Result =/= ok, Result =/= {error, draining}]),
    ?assertEqual(length([ok || ok <- Results]), maps:get(journal, py:info(test))).

-spec busy_after_the_time(ct_suite:ct_config()) -> ok.
busy_after_the_time(_Config) ->
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => test, demand => 0}),
    ?assertEqual({error, {busy, 1}}, py:drain(test, 50)),
    ?assertEqual({error, {busy, 1}}, py:drain(test, 0)),
    ?assertEqual({error, draining}, py:call(builtins, len, [[]], #{}, ?POOL)),
    py:stream_cancel(Ref, [flush]),
    ok = py:drain(test, infinity).

-spec again_after_resume(ct_suite:ct_config()) -> ok.
again_after_resume(_Config) ->
    ok = py:resume(test),
    ok = py:drain(test, ?LONG),
    ok = py:resume(test),
    ?assertEqual({ok, 0}, py:call(builtins, len, [[]], #{}, ?POOL)),
    ?assertEqual({ok, [0, 1]}, py:stream(builtins, range, [2], #{}, ?POOL)),
    ?assertMatch(#{draining := false}, py:info(test)),
    test_leftovers:none().

%% The manager that is started in its place takes nothing new either.
-spec a_manager_is_killed(ct_suite:ct_config()) -> ok.
a_manager_is_killed(_Config) ->
    ok = py:drain(test, ?LONG),
    {test, Manager, _, _} = lists:keyfind(test, 1, supervisor:which_children(py_pool_sup)),
    exit(Manager, kill),
    test_eventually:true(fun() ->
        case lists:keyfind(test, 1, supervisor:which_children(py_pool_sup)) of
            {test, Next, _, _} -> is_pid(Next) andalso Next =/= Manager;
            false -> false
        end
    end),
    test_eventually:equal(2, fun() ->
        case py:info(test) of
            #{workers := Workers} -> length(Workers);
            _ -> none
        end
    end),
    ?assertEqual({error, draining}, py:call(builtins, len, [[]], #{}, ?POOL)),
    ok = py:resume(test),
    ?assertEqual({ok, 0}, py:call(builtins, len, [[]], #{}, ?POOL)).

%% What ran in a worker that died is not waited for, and the one in its place is as closed.
-spec a_worker_is_killed(ct_suite:ct_config()) -> ok.
a_worker_is_killed(_Config) ->
    {ok, _} = py:stream_start(itertools, count, [], #{pool => test, demand => 0}),
    {error, {busy, 1}} = py:drain(test, 0),
    #{workers := Workers} = py:info(test),
    [exit(Pid, kill) || #{pid := Pid, streams := 1} <- Workers],
    ok = py:drain(test, ?LONG),
    test_eventually:equal(2, fun() -> length(maps:get(workers, py:info(test))) end),
    ?assertEqual({error, draining}, py:call(builtins, len, [[]], #{}, ?POOL)).

%% Between the choice of a worker and the request nothing is missed: a pool that is stopped
%% after its drain breaks off no call.
-spec no_request_is_lost(ct_suite:ct_config()) -> ok.
no_request_is_lost(_Config) ->
    Callers = [spawn_monitor(fun() -> call_until_refused(0) end) || _ <- lists:seq(1, 8)],
    test_eventually:equal(true, fun() ->
        lists:any(fun(#{calls := Calls}) -> Calls > 1 end, maps:get(workers, py:info(test)))
    end),
    ok = py:drain(test, ?LONG),
    ok = py:stop_pool(test),
    [
        receive
            {'DOWN', Monitor, process, Pid, Reason} ->
                %% One that was slow to ask again finds no pool.
                ?assert(lists:member(element(2, Reason), [draining, {no_pool, test}]))
        end
     || {Pid, Monitor} <- Callers
    ],
    ok.

call_until_refused(N) ->
    case py:call(time, sleep, [0.001], #{}, ?POOL) of
        {ok, none} -> call_until_refused(N + 1);
        {error, Reason} -> exit({N, Reason})
    end.

-spec a_worker_of_ones_own(ct_suite:ct_config()) -> ok.
a_worker_of_ones_own(_Config) ->
    {ok, Pid} = py:start_worker(#{}),
    ok = py:drain(Pid, ?LONG),
    ?assertEqual({error, draining}, py:call(builtins, len, [[]], #{}, #{pool => Pid})),
    ok = py:resume(Pid),
    ?assertEqual({ok, 0}, py:call(builtins, len, [[]], #{}, #{pool => Pid})),
    py:stop_worker(Pid).

-spec no_such_pool(ct_suite:ct_config()) -> ok.
no_such_pool(_Config) ->
    ?assertEqual({error, {no_pool, none_such}}, py:drain(none_such, 0)),
    ?assertEqual({error, {no_pool, none_such}}, py:resume(none_such)).

-spec wrong_arguments(ct_suite:ct_config()) -> ok.
wrong_arguments(_Config) ->
    ?assertError({badopt, {timeout, soon}}, py:drain(test, soon)),
    ?assertError({badopt, {timeout, -1}}, py:drain(test, -1)),
    ?assertEqual({ok, 0}, py:call(builtins, len, [[]], #{}, ?POOL)).
