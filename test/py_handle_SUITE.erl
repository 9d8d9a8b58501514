%% @doc Handles: objects that stay in the worker that has made them.
-module(py_handle_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([
    it_is_called/1,
    it_is_streamed/1,
    it_is_an_argument/1,
    requests_find_their_worker/1,
    whatever_a_call_returns_can_be_one/1,
    what_fails_makes_none/1,
    it_ends_with_its_owner/1,
    it_ends_with_its_keeper/1,
    it_ends_when_it_is_let_go/1,
    what_is_late_is_not_kept/1,
    a_result_without_a_keeper_is_not_kept/1,
    a_worker_that_has_died_is_said/1,
    a_worker_that_is_to_leave_is_said/1,
    another_worker_has_a_reference/1,
    it_is_for_pools_that_allow_it/1,
    it_ends_on_the_thread_it_is_for/1,
    other_processes_may_use_it/1,
    wrong_options_are_refused/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        it_is_called,
        it_is_streamed,
        it_is_an_argument,
        requests_find_their_worker,
        whatever_a_call_returns_can_be_one,
        what_fails_makes_none,
        it_ends_with_its_owner,
        it_ends_with_its_keeper,
        it_ends_when_it_is_let_go,
        what_is_late_is_not_kept,
        a_result_without_a_keeper_is_not_kept,
        a_worker_that_has_died_is_said,
        a_worker_that_is_to_leave_is_said,
        another_worker_has_a_reference,
        it_is_for_pools_that_allow_it,
        it_ends_on_the_thread_it_is_for,
        other_processes_may_use_it,
        wrong_options_are_refused
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    Pool = #{workers => 3, python_path => [?config(data_dir, Config)], interrupt_after => 50},
    ok = application:set_env(erlang_python, pools, #{default => Pool, other => Pool#{workers => 1}}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

%% Each case lets go of what it has made: no process of one is left.
-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    test_eventually:equal([], fun() -> entered(py_handle) end).

%%% What a handle is good for.

%% Its methods, whatever sort they are of, with named arguments and options.
-spec it_is_called(ct_suite:ct_config()) -> ok.
it_is_called(_Config) ->
    {ok, Thing} = make(),
    ?assertEqual({ok, 3}, py:call(Thing, add, [1, 2])),
    ?assertEqual({ok, 13}, py:call(Thing, <<"add">>, [1, 2], #{last => 10})),
    ?assertEqual({ok, <<"so">>}, py:call(Thing, later, [<<"so">>], #{}, 5000)),
    ?assertEqual({ok, {<<"thing">>, 1}}, py:call(Thing, '__call__', [1])),
    ?assertEqual({ok, <<"THING">>}, py:call(Thing, "name.upper", [])),
    ?assertEqual({ok, 6}, py:await(py:spawn_call(Thing, add, [1, 2, 3]))),
    ok = py:cast(Thing, add, [1]),
    ?assertMatch({error, {'AttributeError', _}}, py:call(Thing, nothing, [])),
    ?assertMatch({error, {'TypeError', <<"'number' of a 'Thing' is not callable", _/binary>>}}, py:call(Thing, number, [])),
    ?assertError({invalid_python_identifier, _}, py:call(Thing, "no name", [])),
    let_go(Thing).

%% Methods that are generators, sync or async.
-spec it_is_streamed(ct_suite:ct_config()) -> ok.
it_is_streamed(_Config) ->
    {ok, Thing} = make(),
    ?assertEqual({ok, [0, 1, 2]}, py:stream(Thing, count, [3])),
    ?assertEqual({ok, [0, 1, 2]}, py:stream(Thing, count_later, [], #{n => 3})),
    {ok, Ref} = py:stream_start(Thing, count, [2]),
    ?assertEqual([{ok, 0}, {ok, 1}, done], [py:stream_next(Ref) || _ <- [1, 2, 3]]),
    Numbers = py:enumerable(Thing, count, [4]),
    ?assertEqual({done, 6}, Numbers({cont, 0}, fun(N, Sum) -> {cont, Sum + N} end)),
    ?assertEqual({ok, [<<"t">>, <<"h">>]}, py:stream_eval("t.name[:2]", #{t => Thing})),
    let_go(Thing).

%% The object itself, at any depth.
-spec it_is_an_argument(ct_suite:ct_config()) -> ok.
it_is_an_argument(_Config) ->
    {ok, Thing} = make(),
    ?assertEqual({ok, {<<"thing">>, none}}, py:call(things, name_of, [Thing])),
    ?assertEqual({ok, {<<"thing">>, <<"thing">>}}, py:call(things, name_of, [Thing], #{other => Thing})),
    ?assertEqual({ok, [<<"thing">>]}, py:call(things, names_within, [#{<<"deep">> => [Thing]}], #{}, #{pool => Thing})),
    ?assertEqual({ok, <<"thing">>}, py:eval("t.name", #{t => Thing})),
    ?assertEqual({ok, true}, py:eval("a is b", [{a, Thing}, {b, Thing}], #{pool => Thing})),
    {ok, In} = py:channel(),
    ok = py:channel_send(In, Thing),
    ?assertEqual({ok, <<"thing">>}, py:eval("next(values).name", #{values => In}, #{pool => Thing})),
    let_go(Thing).

%% However many workers there are, unless the pool is named.
-spec requests_find_their_worker(ct_suite:ct_config()) -> ok.
requests_find_their_worker(_Config) ->
    Things = [
        begin
            {ok, Thing} = py:call(things, make, [self()], #{}, #{return => handle, pool => Worker}),
            Thing
        end
     || Worker <- test_workers:ready(default)
    ],
    ?assertMatch([_, _, _], lists:usort([Worker || {py_handle, {_, Worker, _}} <- Things])),
    [?assertEqual({ok, {<<"thing">>, none}}, py:call(things, name_of, [Thing])) || Thing <- Things, _ <- [1, 2, 3]],
    [let_go(Thing) || Thing <- Things],
    ok.

%% Also of async functions, of expressions, and of other handles.
-spec whatever_a_call_returns_can_be_one(ct_suite:ct_config()) -> ok.
whatever_a_call_returns_can_be_one(_Config) ->
    {ok, Later} = py:call(things, make_later, [self()], #{}, [{return, handle}]),
    {ok, Child} = py:call(Later, child, [], #{}, #{return => handle}),
    ?assertEqual({ok, {<<"child">>, <<"thing">>}}, py:call(things, name_of, [Child], #{other => Later})),
    {ok, Number} = py:eval("6 * 7", #{}, #{return => handle}),
    ?assertEqual({ok, 42}, py:call(things, back, [Number])),
    {ok, Generator} = py:eval("(n for n in range(3))", #{}, #{return => handle}),
    ?assertEqual({ok, 0}, py:call(builtins, next, [Generator])),
    ?assertEqual({ok, [1, 2]}, py:stream(builtins, iter, [Generator])),
    ?assertEqual({ok, 5}, py:call(operator, add, [2, 3], #{}, #{return => value})),
    [ok = py:release(Handle) || Handle <- [Number, Generator]],
    let_go(Child),
    let_go(Later).

-spec what_fails_makes_none(ct_suite:ct_config()) -> ok.
what_fails_makes_none(_Config) ->
    ?assertEqual({error, {'ValueError', <<"no thing">>}}, py:call(things, fail, [], #{}, #{return => handle})),
    ?assertEqual({error, {no_pool, nobody}}, py:call(things, fail, [], #{}, #{return => handle, pool => nobody})),
    ?assertEqual({messages, []}, process_info(self(), messages)).

%%% How long there is one.

%% Whatever ends the process that has made it.
-spec it_ends_with_its_owner(ct_suite:ct_config()) -> ok.
it_ends_with_its_owner(_Config) ->
    [
        begin
            Test = self(),
            {Owner, Monitor} = spawn_monitor(fun() ->
                {ok, Thing} = py:call(things, make, [Test], #{}, #{return => handle}),
                Test ! {made, Thing},
                receive end_now -> exit(Reason) end
            end),
            Thing = receive {made, Made} -> Made end,
            {ok, 1} = py:call(Thing, add, [1]),
            receive {ended, _, _} -> error(ended_early) after 0 -> ok end,
            Owner ! end_now,
            receive {'DOWN', Monitor, process, Owner, _} -> ok end,
            receive {ended, <<"thing">>, _} -> ok end,
            test_eventually:equal(released(), fun() -> py:call(Thing, add, [1]) end)
        end
     || Reason <- [normal, oh, kill]
    ],
    ok.

%% However that ends: it is let go of, once.
-spec it_ends_with_its_keeper(ct_suite:ct_config()) -> ok.
it_ends_with_its_keeper(_Config) ->
    {ok, Thing = {py_handle, {Keeper, _, _}}} = make(),
    ?assertEqual({ok, 1}, py:call(Thing, add, [1])),
    exit(Keeper, kill),
    receive {ended, <<"thing">>, _} -> ok end,
    ?assertEqual(released(), py:call(Thing, add, [1])),
    ok = py:release(Thing).

%% Any number of times; the object lives on where Python code has it.
-spec it_ends_when_it_is_let_go(ct_suite:ct_config()) -> ok.
it_ends_when_it_is_let_go(_Config) ->
    {ok, Thing} = make(),
    ok = py:release(Thing),
    ok = py:release(Thing),
    receive {ended, _, _} -> ok end,
    ?assertEqual(released(), py:call(Thing, add, [1])),
    ?assertEqual(released(), py:stream(Thing, count, [1])),
    ?assertEqual(released(), py:stream_start(Thing, count, [1])),
    ?assertEqual(released(), py:call(things, name_of, [Thing])),
    ?assertEqual(released(), py:call(things, names_within, [#{<<"deep">> => [Thing]}], #{}, #{pool => Thing})),
    ?assertEqual(released(), py:await(py:spawn_call(Thing, add, [1]))),
    {ok, Parent} = make(),
    {ok, Same} = py:call(Parent, itself, [], #{}, #{return => handle}),
    ok = py:release(Parent),
    ?assertEqual({ok, 1}, py:call(Same, add, [1])),
    receive {ended, _, _} -> error(ended_early) after 20 -> ok end,
    let_go(Same).

%% A call that was given up leaves no object behind, whichever was first. Python may never have begun with one
%% whose time was short.
-spec what_is_late_is_not_kept(ct_suite:ct_config()) -> ok.
what_is_late_is_not_kept(_Config) ->
    Opts = #{return => handle, pool => other},
    [
        case py:call(things, make_slowly, [self(), 0.02], #{}, Opts#{timeout => Timeout}) of
            {ok, Thing} -> ok = py:release(Thing);
            {error, timeout} -> ok
        end
     || Timeout <- [5, 19, 20, 21, 22, 30, 1000]
    ],
    Test = self(),
    Caller = spawn(fun() -> py:call(things, make_slowly, [Test, 0.1], #{}, Opts) end),
    receive after 50 -> exit(Caller, kill) end,
    none_lives().

%% The caller ends just when the result has come, and has not been handed on.
-spec a_result_without_a_keeper_is_not_kept(ct_suite:ct_config()) -> ok.
a_result_without_a_keeper_is_not_kept(_Config) ->
    Test = self(),
    {Caller, CallerMonitor} = spawn_monitor(fun() ->
        py:call(things, make_slowly, [Test, 0.1], #{}, #{return => handle, pool => other})
    end),
    Calls = fun() -> entered(py_async_call) end,
    test_eventually:equal(1, fun() -> length(Calls()) end),
    [Call] = Calls(),
    ok = sys:suspend(Call),
    test_eventually:equal({ok, 1}, fun() -> py:call(things, living, [], #{}, #{pool => other}) end),
    %% It is counted until its result has been sent.
    test_workers:idle(other),
    exit(Caller, kill),
    receive
        {'DOWN', CallerMonitor, process, Caller, killed} -> ok
    end,
    test_eventually:equal([], fun() -> entered(py_handle) end),
    ok = sys:resume(Call),
    none_lives().

none_lives() ->
    %% Nothing else is made.
    test_workers:idle(other),
    test_eventually:equal({ok, 0}, fun() -> py:call(things, living, [], #{}, #{pool => other}) end).

%% Keepers and what holds objects for them, or calls that have a process.
entered(Module) ->
    [Pid || Pid <- processes(), {Initial, enter, _} <- [proc_lib:translate_initial_call(Pid)], Initial =:= Module].

%% Each time that it is asked, by the status of the worker.
-spec a_worker_that_has_died_is_said(ct_suite:ct_config()) -> ok.
a_worker_that_has_died_is_said(_Config) ->
    {ok, Thing} = py:call(things, make, [self()], #{}, #{return => handle, pool => other}),
    {error, {worker_exit, 3}} = py:call(Thing, leave, []),
    [
        begin
            ?assertEqual({error, {worker_exit, 3}}, py:call(Thing, add, [1])),
            ?assertEqual({error, {worker_exit, 3}}, py:call(things, name_of, [Thing])),
            ?assertEqual({error, {worker_exit, 3}}, py:stream(Thing, count, [1])),
            ?assertEqual({error, {worker_exit, 3}}, py:stream_start(Thing, count, [1])),
            ?assertEqual({error, {worker_exit, 3}}, py:eval("t", #{t => Thing})),
            ?assertEqual({error, {worker_exit, 3}}, py:await(py:spawn_call(Thing, add, [1])))
        end
     || _ <- [1, 2]
    ],
    ok = py:release(Thing),
    test_eventually:equal(released(), fun() -> py:call(Thing, add, [1]) end),
    test_eventually:equal({ok, 1}, fun() -> py:eval("1", #{}, #{pool => other}) end),
    {ok, Killed} = py:call(things, make, [self()], #{}, #{return => handle, pool => other}),
    [ok = test_workers:kill(Worker) || Worker <- test_workers:ready(other)],
    test_eventually:equal({error, {worker_exit, {signal, 9}}}, fun() -> py:call(Killed, add, [1]) end),
    ok = py:release(Killed),
    test_eventually:equal({ok, 1}, fun() -> py:eval("1", #{}, #{pool => other}) end).

%% One that is recycled ends what it runs, for as long as that takes. Nobody waits for that.
-spec a_worker_that_is_to_leave_is_said(ct_suite:ct_config()) -> ok.
a_worker_that_is_to_leave_is_said(_Config) ->
    {ok, Thing} = py:call(things, make, [self()], #{}, #{return => handle, pool => other}),
    {ok, Ref} = py:stream_start(Thing, count, [100], #{demand => 1}),
    {ok, 0} = py:stream_next(Ref),
    ok = py:restart_workers(other),
    Gone = {error, {worker_exit, stopped}},
    ?assertEqual(Gone, py:call(Thing, add, [1], #{}, infinity)),
    ?assertEqual(Gone, py:call(things, name_of, [Thing])),
    ?assertEqual(Gone, py:stream(Thing, count, [1])),
    ?assertEqual(Gone, py:stream_start(Thing, count, [1])),
    ?assertEqual(Gone, py:eval("t", #{t => Thing}, #{return => handle})),
    ?assertEqual(Gone, py:await(py:spawn_call(Thing, add, [1]))),
    %% The worker is there, and goes on.
    ok = py:stream_demand(Ref, 1),
    {ok, 1} = py:stream_next(Ref),
    ok = py:stream_cancel(Ref, [flush]),
    {py_handle, {_Keeper, Worker, _Id}} = Thing,
    test_eventually:equal(false, fun() -> is_process_alive(Worker) end),
    ?assertEqual(Gone, py:call(Thing, add, [1])),
    ok = py:release(Thing).

%% It can be handed on there, and comes back as it was.
-spec another_worker_has_a_reference(ct_suite:ct_config()) -> ok.
another_worker_has_a_reference(_Config) ->
    {ok, Thing} = make(),
    Other = #{pool => other},
    ?assertEqual({ok, <<"Ref">>}, py:call(things, kind, [Thing], #{}, Other)),
    ?assertEqual({ok, [Thing]}, py:call(things, back, [[Thing]], #{}, Other)),
    ?assertEqual({ok, true}, py:eval("a == b and hash(a) == hash(b) and a != 1", #{a => Thing, b => Thing}, Other)),
    ?assertMatch({ok, <<"<erlang.Ref ", _/binary>>}, py:eval("repr(a)", #{a => Thing}, Other)),
    ?assertMatch({error, {'AttributeError', _}}, py:call(things, name_of, [Thing], #{}, Other)),
    let_go(Thing).

%% Where a pool says what is allowed, so must it of methods, by the class that has them.
-spec it_is_for_pools_that_allow_it(ct_suite:ct_config()) -> ok.
it_is_for_pools_that_allow_it(Config) ->
    Pool = #{
        workers => 1,
        python_path => [?config(data_dir, Config)],
        allow => [{things, make}, {things, "Thing.add"}, {things, "Sub.count"}]
    },
    {ok, _} = py:start_pool(strict, Pool),
    {ok, Thing} = py:call(things, make, [self()], #{}, #{return => handle, pool => strict}),
    ?assertEqual({ok, 3}, py:call(Thing, add, [1, 2])),
    ?assertEqual({ok, [0]}, py:stream(Thing, count, [1])),
    [
        ?assertEqual({error, not_allowed}, py:call(Thing, Method, []))
     || Method <- [child, '__class__', "add.__func__", '__init__', '__dict__']
    ],
    ?assertEqual({error, not_allowed}, py:call(things, back, [Thing])),
    ?assertEqual({error, not_allowed}, py:eval("t", #{t => Thing})),
    let_go(Thing),
    ok = py:stop_pool(strict).

%% Where a pool wants all code on Python's main thread, objects end there, too.
-spec it_ends_on_the_thread_it_is_for(ct_suite:ct_config()) -> ok.
it_ends_on_the_thread_it_is_for(Config) ->
    [
        begin
            {ok, _} = py:start_pool(threads, #{workers => 1, python_path => [?config(data_dir, Config)], thread => Thread}),
            {ok, Thing} = py:call(things, make, [self()], #{}, #{return => handle, pool => threads}),
            {ok, 1} = py:call(Thing, add, [1]),
            {ok, <<"so">>} = py:call(Thing, later, [<<"so">>]),
            ok = py:release(Thing),
            receive {ended, _, OnMain} -> ?assertEqual(Thread =:= main, OnMain) end,
            ok = py:stop_pool(threads)
        end
     || Thread <- [main, any]
    ],
    ok.

-spec other_processes_may_use_it(ct_suite:ct_config()) -> ok.
other_processes_may_use_it(_Config) ->
    {ok, Thing} = make(),
    Workers = [spawn_monitor(fun() -> exit(py:call(Thing, add, [N])) end) || N <- lists:seq(1, 20)],
    Results = [receive {'DOWN', Monitor, process, Pid, Result} -> Result end || {Pid, Monitor} <- Workers],
    ?assertEqual([{ok, N} || N <- lists:seq(1, 20)], Results),
    let_go(Thing).

-spec wrong_options_are_refused(ct_suite:ct_config()) -> ok.
wrong_options_are_refused(_Config) ->
    Opts = #{return => handle},
    ?assertError({badopt, {return, object}}, py:call(things, fail, [], #{}, #{return => object})),
    ?assertError({badopt, {timeout, soon}}, py:call(things, fail, [], #{}, Opts#{timeout => soon})),
    ?assertError({badopt, {return, handle}}, py:spawn_call(things, fail, [], #{}, Opts)),
    ?assertError({badopt, {return, handle}}, py:cast(things, fail, [], #{}, Opts)),
    ?assertError({badopt, {return, handle}}, py:exec("1", Opts)),
    ?assertError({badopt, {return, handle}}, py:stream(things, fail, [], #{}, Opts)),
    ?assertError({badopt, {args, 1}}, py:call(things, fail, 1, #{}, Opts)).

%%% What the cases share.

make() ->
    py:call(things, make_later, [self()], #{}, #{return => handle}).

let_go(Thing) ->
    ok = py:release(Thing),
    receive {ended, _, _} -> ok end.

released() ->
    {error, {'ReferenceError', <<"the handle was released">>}}.
