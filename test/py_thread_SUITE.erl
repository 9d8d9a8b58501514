%% @doc Workers with the option `thread => main': calls, expressions and sync streams run on
%% Python's main thread, one at a time in the order of arrival, and async code beside them.
-module(py_thread_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([
    everything_sync_runs_on_the_main_thread/1,
    what_belongs_to_a_thread_stays_usable/1,
    one_at_a_time_in_order/1,
    async_code_goes_on_beside/1,
    what_waits_is_cancelled_without_running/1,
    what_runs_is_interrupted/1,
    streams_flow_and_are_cancelled/1,
    a_stopped_worker_closes_its_stream/1,
    a_pool/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        everything_sync_runs_on_the_main_thread,
        what_belongs_to_a_thread_stays_usable,
        one_at_a_time_in_order,
        async_code_goes_on_beside,
        what_waits_is_cancelled_without_running,
        what_runs_is_interrupted,
        streams_flow_and_are_cancelled,
        a_stopped_worker_closes_its_stream,
        a_pool
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    ok = application:set_env(erlang_python, pools, #{}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    {ok, {Worker, Monitor}} = py:start_worker(options(Config), monitor),
    [{opts, #{pool => Worker}}, {monitor, Monitor} | Config].

options(Config) ->
    #{
        thread => main,
        python_path => [?config(data_dir, Config)],
        preload => [one_thread],
        interrupt_after => 50
    }.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, Config) ->
    true = demonitor(?config(monitor, Config), [flush]),
    #{pool := Worker} = ?config(opts, Config),
    case is_process_alive(Worker) of
        true -> ok = py:stop_worker(Worker);
        false -> ok
    end.

call(Function, Args, Config) -> py:call(one_thread, Function, Args, #{}, ?config(opts, Config)).

%% Keeps the main thread busy until `open_gate'.
busy(Config) ->
    Busy = py:spawn_call(one_thread, wait, [], #{}, ?config(opts, Config)),
    {ok, none} = call(main_thread_is_held, [], Config),
    Busy.

%% `N' requests wait behind one that runs.
waiting(N, Config) ->
    #{pool := Worker} = ?config(opts, Config),
    test_eventually:equal({N + 1, N}, fun() ->
        #{workers := [#{requests := Requests, waiting_main := Waiting}]} = py:info(Worker),
        {Requests, Waiting}
    end).

-spec everything_sync_runs_on_the_main_thread(ct_suite:ct_config()) -> ok.
everything_sync_runs_on_the_main_thread(Config) ->
    Opts = ?config(opts, Config),
    Several = lists:seq(1, 20),
    [?assertEqual({ok, true}, call(thread, [], Config)) || _ <- Several],
    [?assertEqual({ok, true}, py:eval("__import__('one_thread').thread()", #{}, Opts)) || _ <- Several],
    ?assertEqual({ok, [true, true]}, py:stream(one_thread, forever, [], #{}, Opts#{take => 2})),
    ?assertEqual(
        {ok, [true]},
        py:stream_eval("(m.thread() for m in [__import__('one_thread')])", #{}, Opts)
    ),
    ok.

%% A connection of the preload, and handlers of signals.
-spec what_belongs_to_a_thread_stays_usable(ct_suite:ct_config()) -> ok.
what_belongs_to_a_thread_stays_usable(Config) ->
    Opts = ?config(opts, Config),
    [?assertEqual({ok, none}, call(add, [N], Config)) || N <- lists:seq(1, 500)],
    [?assertEqual({ok, 500}, call(count, [], Config)) || _ <- lists:seq(1, 20)],
    ?assertEqual({ok, lists:seq(1, 500)}, py:stream(one_thread, items, [], #{}, Opts)),
    ?assertEqual({ok, [[<<"closed">>, true, 500]]}, call(notes, [], Config)),
    ?assertEqual({ok, lists:seq(1, 500)}, py:stream(one_thread, items_of_a_coroutine, [], #{}, Opts)),
    ?assertEqual({ok, [[<<"closed">>, true, 500]]}, call(notes, [], Config)),
    ok = py:exec("import one_thread\none_thread.add(501)", Opts),
    ?assertEqual({ok, 501}, call(count, [], Config)),
    ?assertEqual({ok, none}, call(set_handler, [], Config)),
    ?assertEqual({ok, [<<"signal">>]}, call(notes, [], Config)).

%% Calls, expressions, code and streams; what waits is seen in `info'.
-spec one_at_a_time_in_order(ct_suite:ct_config()) -> ok.
one_at_a_time_in_order(Config) ->
    Opts = ?config(opts, Config),
    Busy = busy(Config),
    %% Each call is made by a process of its own, so the next one is not made before this one waits.
    Calls = [
        begin
            Call = py:spawn_call(one_thread, note, [N], #{}, Opts),
            waiting(N, Config),
            Call
        end
     || N <- lists:seq(1, 50)
    ],
    {ok, Ref} = py:stream_start(one_thread, items, [], Opts),
    waiting(51, Config),
    Last = py:spawn_call(one_thread, notes, [], #{}, Opts),
    waiting(52, Config),
    ?assertEqual({ok, false}, call(open_gate, [], Config)),
    [?assertEqual({ok, none}, py:await(Call)) || Call <- [Busy | Calls]],
    ?assertEqual(done, py:stream_next(Ref)),
    ?assertEqual({ok, lists:seq(1, 50) ++ [[<<"closed">>, true, 0]]}, py:await(Last)).

-spec async_code_goes_on_beside(ct_suite:ct_config()) -> ok.
async_code_goes_on_beside(Config) ->
    Busy = busy(Config),
    ?assertEqual(
        {ok, lists:seq(0, 99)}, py:stream(one_thread, ticks, [], #{}, ?config(opts, Config))
    ),
    ?assertEqual({ok, false}, call(open_gate, [], Config)),
    ?assertEqual({ok, none}, py:await(Busy)).

%% Also where what runs before it goes on: the answer does not wait for that.
-spec what_waits_is_cancelled_without_running(ct_suite:ct_config()) -> ok.
what_waits_is_cancelled_without_running(Config) ->
    Opts = ?config(opts, Config),
    Busy = busy(Config),
    ?assertEqual({error, timeout}, py:call(one_thread, note, [1], #{}, Opts#{timeout => 20})),
    ?assertEqual(
        {error, timeout},
        py:exec("import one_thread\none_thread.note(2)", Opts#{timeout => 20, replay => false})
    ),
    {ok, Ref} = py:stream_start(one_thread, forever, [], Opts),
    ok = py:stream_cancel(Ref),
    {ok, Rows} = py:stream_start(one_thread, items_of_a_coroutine, [], Opts),
    waiting(1, Config),
    ok = py:stream_cancel(Rows),
    %% Nothing of them is left although the main thread is as busy as before.
    waiting(0, Config),
    ?assertEqual({ok, false}, call(open_gate, [], Config)),
    ?assertEqual({ok, none}, py:await(Busy)),
    ?assertEqual({ok, []}, call(notes, [], Config)).

-spec what_runs_is_interrupted(ct_suite:ct_config()) -> ok.
what_runs_is_interrupted(Config) ->
    Opts = ?config(opts, Config),
    Spinning = py:spawn_call(one_thread, spin, [], #{}, Opts),
    {ok, none} = call(main_thread_is_held, [], Config),
    ?assertEqual({error, timeout}, py:await(Spinning, 20)),
    ?assertEqual({ok, [<<"spun">>]}, call(notes, [], Config)),
    Evaluating = spawn(fun() -> py:eval("__import__('one_thread').spin()", #{}, Opts) end),
    {ok, none} = call(main_thread_is_held, [], Config),
    true = exit(Evaluating, kill),
    ?assertEqual({ok, [<<"spun">>]}, call(notes, [], Config)),
    %% The thread is as it was.
    [?assertEqual({ok, true}, call(thread, [], Config)) || _ <- lists:seq(1, 20)],
    ok.

%% One that waits for its window, and one at full speed.
-spec streams_flow_and_are_cancelled(ct_suite:ct_config()) -> ok.
streams_flow_and_are_cancelled(Config) ->
    Opts = ?config(opts, Config),
    {ok, Slow} = py:stream_start(one_thread, forever, [], Opts#{window => 3}),
    [?assertEqual({ok, true}, py:stream_next(Slow, 5000)) || _ <- lists:seq(1, 50)],
    ok = py:stream_cancel(Slow),
    {ok, Fast} = py:stream_start(one_thread, forever, [], Opts),
    [?assertEqual({ok, true}, py:stream_next(Fast, 5000)) || _ <- lists:seq(1, 20000)],
    ok = py:stream_cancel(Fast),
    ?assertEqual({ok, [<<"ended">>, <<"ended">>]}, call(notes, [], Config)).

%% Although the main thread, which does that, is in the midst of it.
-spec a_stopped_worker_closes_its_stream(ct_suite:ct_config()) -> ok.
a_stopped_worker_closes_its_stream(Config) ->
    Opts = #{pool := Worker} = ?config(opts, Config),
    File = filename:join(?config(priv_dir, Config), "closed"),
    {ok, Ref} = py:stream_start(one_thread, at_the_end, [list_to_binary(File)], Opts),
    {ok, 0} = py:stream_next(Ref, 5000),
    ok = py:stop_worker(Worker),
    test_eventually:equal({ok, <<"closed on the main thread">>}, fun() -> file:read_file(File) end),
    ok = py:stream_cancel(Ref).

-spec a_pool(ct_suite:ct_config()) -> ok.
a_pool(Config) ->
    {ok, _} = py:start_pool(one_thread_each, (options(Config))#{workers => 2}),
    Opts = #{pool => one_thread_each},
    Calls = [py:spawn_call(one_thread, thread, [], #{}, Opts) || _ <- lists:seq(1, 40)],
    [?assertEqual({ok, true}, py:await(Call)) || Call <- Calls],
    ok = py:stop_pool(one_thread_each).
