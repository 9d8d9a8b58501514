%% @doc Whatever happens in a worker stays there: every request has one answer, the other
%% workers notice nothing, and the pool heals by itself.
-module(py_failure_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").
-import(test_stream_events, [each_event/1]).

-export([all/0, groups/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([init_per_testcase/2, end_per_testcase/2]).
-export([log/2]).
-export([
    death_in_a_call/1,
    death_in_a_stream/1,
    death_in_an_async_stream/1,
    death_beside_others/1,
    death_of_the_worker_process/1,
    death_of_an_idle_worker/1,
    death_while_others_write/1,
    a_child_that_holds_the_pipe/1,
    children_hold_no_descriptor/1,
    an_exit_status_may_come_late/1,
    a_large_allocation/1,
    many_small_allocations/1,
    a_large_argument/1,
    a_large_value/1,
    threads_are_not_counted/1,
    no_memory_for_threads/1,
    owner_exits/1,
    owner_is_killed/1,
    owner_is_dead_at_the_start/1,
    owner_lives_on_a_node_that_goes_down/1,
    caller_is_killed/1,
    interrupt_a_stream/1,
    interrupt_a_call/1,
    interrupt_by_timeout/1,
    interrupt_not_at_once/1,
    kill_after/1,
    kill_after_spares_what_ends/1,
    what_has_ended_is_watched_no_more/1,
    timeouts_go_up_the_ladder/1,
    a_held_lock_is_the_worker_s_alone/1,
    a_stopped_worker_is_replaced/1,
    a_deaf_worker_is_waited_for/1,
    a_deaf_worker_is_replaced/1,
    full_disk/1,
    closed_stderr/1
]).

-define(LONG, 10000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [{group, atom()} | atom()].
all() ->
    [
        {group, exit},
        {group, kill},
        {group, segfault},
        {group, abort},
        death_of_the_worker_process,
        death_of_an_idle_worker,
        death_while_others_write,
        a_child_that_holds_the_pipe,
        children_hold_no_descriptor,
        an_exit_status_may_come_late,
        {group, memory},
        {group, sync_owners},
        {group, async_owners},
        owner_is_dead_at_the_start,
        caller_is_killed,
        {group, ladder},
        full_disk,
        closed_stderr
    ].

-spec groups() -> [{atom(), [atom()], [atom()]}].
groups() ->
    Deaths = [death_in_a_call, death_in_a_stream, death_in_an_async_stream, death_beside_others],
    Owners = [owner_exits, owner_is_killed, owner_lives_on_a_node_that_goes_down],
    Memory = [
        a_large_allocation,
        many_small_allocations,
        a_large_argument,
        a_large_value,
        threads_are_not_counted,
        no_memory_for_threads
    ],
    Ladder = [
        interrupt_a_stream,
        interrupt_a_call,
        interrupt_by_timeout,
        interrupt_not_at_once,
        kill_after,
        kill_after_spares_what_ends,
        what_has_ended_is_watched_no_more,
        timeouts_go_up_the_ladder,
        a_held_lock_is_the_worker_s_alone,
        a_stopped_worker_is_replaced,
        a_deaf_worker_is_waited_for,
        a_deaf_worker_is_replaced
    ],
    [
        {exit, [], Deaths},
        {kill, [], Deaths},
        {segfault, [], Deaths},
        {abort, [], Deaths},
        {memory, [], Memory},
        {sync_owners, [], Owners},
        {async_owners, [], Owners},
        {ladder, [], Ladder}
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    ok = application:set_env(erlang_python, pools, #{}),
    ok = application:set_env(erlang_python, liveness_ms, 200),
    {ok, _} = application:ensure_all_started(erlang_python),
    [{path, ?config(data_dir, Config)} | Config].

-spec end_per_suite(ct_suite:ct_config()) -> term().
end_per_suite(_Config) ->
    _ = application:stop(erlang_python),
    application:unset_env(erlang_python, pools),
    application:unset_env(erlang_python, liveness_ms).

-spec init_per_group(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_group(memory, Config) ->
    case os:type() of
        {unix, linux} -> Config;
        _ -> {skip, "the limit is enforced on Linux only"}
    end;
init_per_group(sync_owners, Config) ->
    [{generators, [numbers, ticks]} | Config];
init_per_group(async_owners, Config) ->
    [{generators, [async_numbers, async_idle]} | Config];
init_per_group(How, Config) ->
    [{how, How} | Config].

-spec end_per_group(atom(), ct_suite:ct_config()) -> ok.
end_per_group(_Group, _Config) ->
    ok.

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> term().
end_per_testcase(_Case, _Config) ->
    test_leftovers:none_and_stop(),
    test_eventually:equal([], fun() -> ets:tab2list(py_processes) end).

%%% Deaths.

-spec death_in_a_call(ct_suite:ct_config()) -> term().
death_in_a_call(Config) ->
    %% A call that takes its worker with it says how, and the pool takes work again.
    start(#{workers => 1}, Config),
    ok = py:exec("word = 'kept'", #{pool => test}),
    ?assertEqual({error, {worker_exit, status(Config)}}, call(die, [how(Config)])),
    test_eventually:equal({ok, <<"kept">>}, fun() -> py:eval("word", #{}, #{pool => test}) end).

-spec death_in_a_stream(ct_suite:ct_config()) -> term().
death_in_a_stream(Config) ->
    %% The values before the death arrive, then its reason, once.
    death_in(die_in_stream, Config).

-spec death_in_an_async_stream(ct_suite:ct_config()) -> term().
death_in_an_async_stream(Config) ->
    %% The same for an async generator.
    death_in(die_in_async_stream, Config).

death_in(Generator, Config) ->
    start(#{workers => 1}, Config),
    {ok, Ref} = stream(Generator, [how(Config)], #{}),
    ?assertEqual(
        [{data, 0}, {data, 1}, {data, 2}, {error, {worker_exit, status(Config)}}],
        each_event(Ref)
    ),
    nothing_more(Ref).

-spec death_beside_others(ct_suite:ct_config()) -> term().
death_beside_others(Config) ->
    %% Each stream and call of the worker that died has one answer; those of the other worker
    %% go on.
    start(#{workers => 2}, Config),
    Streams = [started(Name) || Name <- [idle, async_idle, idle, async_idle, idle, async_idle]],
    Calls = [
        spawn_monitor(fun() -> exit(py:eval("__import__('time').sleep(5)", #{}, #{pool => test})) end)
     || _ <- lists:seq(1, 4)
    ],
    test_eventually:equal(4, fun() -> lists:sum([Calls_ || #{calls := Calls_} <- workers()]) end),
    [{Victim, _} | _] = Streams,
    {Dying, Living} = lists:partition(fun({Pid, _}) -> Pid =:= Victim end, Streams),
    ?assertNotEqual([], Living),
    test_os_process:kill(Victim),
    Exit = {error, {worker_exit, {signal, 9}}},
    [?assertEqual([Exit], each_event(Ref)) || {_, Ref} <- Dying],
    Answers = [
        receive
            {'DOWN', Monitor, process, Pid, Answer} -> Answer
        end
     || {Pid, Monitor} <- Calls
    ],
    ?assertEqual(2, length([Answer || Answer <- Answers, Answer =:= Exit])),
    ?assertEqual(2, length([Answer || Answer = {ok, none} <- Answers])),
    [?assertEqual(timeout, py:stream_next(Ref, 0)) || {_, Ref} <- Living],
    [py:stream_cancel(Ref, [flush]) || {_, Ref} <- Living],
    [nothing_more(Ref) || {_, Ref} <- Streams],
    test_eventually:equal(2, fun() -> length(workers()) end).

-spec death_of_the_worker_process(ct_suite:ct_config()) -> term().
death_of_the_worker_process(Config) ->
    %% The Erlang process that owns the port is killed while Python holds the interpreter
    %% lock: its requests are answered, and its Python process is gone within a second.
    start(#{workers => 1}, Config),
    {Python, Ref} = stuck(hold_the_lock, [60]),
    [#{pid := Pid}] = lists:filter(fun(W) -> is_map_key(pid, W) end, workers()),
    exit(Pid, kill),
    ?assertEqual([{error, {worker_exit, killed}}], each_event(Ref)),
    ?assert(is_gone_within(1000, Python)),
    test_eventually:true(fun() -> call(pid, []) =/= {ok, Python} end).

-spec death_of_an_idle_worker(ct_suite:ct_config()) -> term().
death_of_an_idle_worker(Config) ->
    %% A worker that nobody waits for is replaced all the same.
    start(#{workers => 1}, Config),
    {ok, Python} = call(pid, []),
    test_os_process:kill(Python),
    test_eventually:true(fun() ->
        case call(pid, []) of
            {ok, Other} -> Other =/= Python;
            {error, {worker_exit, _}} -> false
        end
    end),
    ?assertMatch(#{restarts := 1}, py:info(test)).

%% What is written to a worker while it dies hides from nobody how it died.
-spec death_while_others_write(ct_suite:ct_config()) -> term().
death_while_others_write(Config) ->
    case os:type() of
        {unix, linux} -> die_while_others_write(Config);
        _ -> {skip, "the pipe to a process is held open on Linux only"}
    end.

die_while_others_write(Config) ->
    start(#{workers => 1}, Config),
    Self = self(),
    Writers = [spawn_link(fun() -> write_on(Self) end) || _ <- [1, 2]],
    [
        begin
            eventually_ok(fun() -> call(pid, []) end),
            %% One that dies sooner is replaced after a pause.
            receive
            after 150 -> ok
            end,
            ?assertEqual({error, {worker_exit, 7}}, py:call(os, '_exit', [7], #{}, #{pool => test}))
        end
     || _ <- lists:seq(1, 10)
    ],
    [
        begin
            unlink(Writer),
            exit(Writer, kill)
        end
     || Writer <- Writers
    ],
    ok.

write_on(Parent) ->
    _ = py:cast(builtins, len, [[1]], #{}, #{pool => test}),
    receive
    after 1 -> write_on(Parent)
    end.

-spec a_child_that_holds_the_pipe(ct_suite:ct_config()) -> term().
a_child_that_holds_the_pipe(Config) ->
    %% Where a child keeps the port's pipes open, no exit status ever comes: the process is
    %% found to be gone.
    start(#{workers => 1}, Config),
    {ok, Child} = call(fork_in_c, []),
    {Python, Ref} = started(idle),
    test_os_process:kill(Python),
    ?assertMatch([{error, {worker_exit, _}}], each_event(Ref)),
    ?assertMatch({ok, _}, eventually_ok(fun() -> call(pid, []) end)),
    test_os_process:kill(Child).

-spec children_hold_no_descriptor(ct_suite:ct_config()) -> term().
children_hold_no_descriptor(Config) ->
    %% Children that user code leaves behind, by subprocess, os.fork and multiprocessing, do
    %% not keep the worker's end from being seen.
    start(#{workers => 1}, Config),
    {ok, Children} = call(leave_children, [20]),
    {Python, Ref} = started(idle),
    test_os_process:kill(Python),
    ?assertEqual([{error, {worker_exit, {signal, 9}}}], each_event(Ref)),
    ?assertMatch({ok, _}, eventually_ok(fun() -> call(pid, []) end)),
    [test_os_process:kill(Child) || Child <- Children].

%% The process is found to be gone before the node has its exit status: whoever waits for it, the
%% emulator's own helper, is kept from it meanwhile.
-spec an_exit_status_may_come_late(ct_suite:ct_config()) -> term().
an_exit_status_may_come_late(Config) ->
    start(#{workers => 1}, Config),
    {Python, Ref} = started(idle),
    [#{pid := Worker}] = workers(),
    {ok, _} = py:start_pool(signals, #{workers => 1}),
    Send = fun(Pid, Signal) -> py:call(os, kill, [Pid, Signal], #{}, #{pool => signals}) end,
    {ok, Helper} = py:call(os, getppid, [], #{}, #{pool => signals}),
    1 = erlang:trace(Worker, true, ['receive']),
    Checked = fun() -> receive {trace, Worker, 'receive', liveness} -> ok after ?LONG -> never end end,
    %% Stopped it sends nothing, so that the check after its death asks the system.
    {ok, none} = Send(Python, 19),
    ok = Checked(),
    ok = Checked(),
    %% A message is traced when it arrives; the answer says that it was handled.
    _ = sys:get_state(Worker),
    {ok, none} = Send(Helper, 19),
    {ok, none} = Send(Python, 9),
    Found = Checked(),
    {ok, none} = Send(Helper, 18),
    ?assertEqual(ok, Found),
    ?assertEqual([{error, {worker_exit, {signal, 9}}}], each_event(Ref)),
    ok = py:stop_pool(signals).

%%% Memory.

-spec a_large_allocation(ct_suite:ct_config()) -> term().
a_large_allocation(Config) ->
    %% An allocation past the limit is a MemoryError where it is made; the worker lives.
    start(#{workers => 1, memory_limit => 100 * 1024 * 1024}, Config),
    {ok, Python} = call(pid, []),
    ?assertEqual({ok, 50 * 1024 * 1024}, call(allocate, [50 * 1024 * 1024])),
    ?assertMatch({error, {'MemoryError', _}}, call(allocate, [200 * 1024 * 1024])),
    ?assertEqual({ok, Python}, call(pid, [])).

-spec many_small_allocations(ct_suite:ct_config()) -> term().
many_small_allocations(Config) ->
    %% The same for one that comes in small pieces, beside a stream that goes on or ends with
    %% its worker: never without an answer.
    start(#{workers => 1, memory_limit => 50 * 1024 * 1024}, Config),
    {_, Ref} = started(idle),
    case call(hoard, []) of
        {error, {'MemoryError', <<"after ", _/binary>>}} ->
            ?assertEqual(timeout, py:stream_next(Ref, 0)),
            py:stream_cancel(Ref, [flush]);
        {error, {worker_exit, _}} ->
            ?assertMatch([{error, {worker_exit, _}}], each_event(Ref))
    end,
    ?assertMatch({ok, _}, eventually_ok(fun() -> call(pid, []) end)).

-spec a_large_argument(ct_suite:ct_config()) -> term().
a_large_argument(Config) ->
    %% A request that the worker has no memory to read is refused alone.
    start(#{workers => 1, memory_limit => 60 * 1024 * 1024}, Config),
    {Python, Ref} = started(idle),
    Large = binary:copy(<<"x">>, 100 * 1024 * 1024),
    ?assertMatch({error, {'MemoryError', _}}, call(size_of, [Large])),
    {ok, Refused} = stream(large, [Large, 1], #{}),
    ?assertMatch([{error, {'MemoryError', _}}], each_event(Refused)),
    ?assertEqual({ok, Python}, call(pid, [])),
    ?assertEqual({ok, 1000}, call(size_of, [binary:copy(<<"x">>, 1000)])),
    py:stream_cancel(Ref, [flush]).

-spec a_large_value(ct_suite:ct_config()) -> term().
a_large_value(Config) ->
    %% A value that there is no memory to make or to encode ends its stream alone.
    start(#{workers => 1, memory_limit => 100 * 1024 * 1024}, Config),
    {Python, Ref} = started(idle),
    {ok, Large} = stream(large, [60 * 1024 * 1024, 1], #{format => json}),
    ?assertMatch([{error, {_, _}}], each_event(Large)),
    {ok, Larger} = stream(large, [300 * 1024 * 1024, 1], #{}),
    ?assertMatch([{error, {'MemoryError', _}}], each_event(Larger)),
    ?assertEqual({ok, Python}, call(pid, [])),
    py:stream_cancel(Ref, [flush]).

-spec threads_are_not_counted(ct_suite:ct_config()) -> term().
threads_are_not_counted(Config) ->
    %% The stacks of the worker's own threads, 8 MiB each, are no use of the user's.
    start(#{workers => 1, memory_limit => 50 * 1024 * 1024}, Config),
    Refs = [element(2, stream(wait_then_count, [3], #{})) || _ <- lists:seq(1, 50)],
    [?assertEqual([{data, 0}, {data, 1}, {data, 2}, done], each_event(Ref)) || Ref <- Refs].

-spec no_memory_for_threads(ct_suite:ct_config()) -> term().
no_memory_for_threads(Config) ->
    %% Streams for which the system has no thread wait for one.
    start(#{workers => 1}, Config),
    ok = py:exec(
        "import resource\n"
        "used = int(open('/proc/self/statm').read().split()[5]) * 4096\n"
        "soft = used + 40 * 1024 * 1024\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (soft, resource.RLIM_INFINITY))\n",
        #{pool => test}
    ),
    {ok, Python} = call(pid, []),
    Refs = [element(2, stream(wait_then_count, [3], #{})) || _ <- lists:seq(1, 30)],
    [?assertEqual([{data, 0}, {data, 1}, {data, 2}, done], each_event(Ref)) || Ref <- Refs],
    ?assertEqual({ok, Python}, call(pid, [])).

%%% Owners.

-spec owner_exits(ct_suite:ct_config()) -> term().
owner_exits(Config) ->
    %% An owner that exits has its generators closed within 50 ms.
    owner_ends(fun(Owner) -> Owner ! stop end, Config).

-spec owner_is_killed(ct_suite:ct_config()) -> term().
owner_is_killed(Config) ->
    %% So has one that is killed.
    owner_ends(fun(Owner) -> exit(Owner, kill) end, Config).

owner_ends(End, Config) ->
    start(#{workers => 1}, Config),
    [
        begin
            Took = [
                begin
                    Owner = spawn(fun sleeper/0),
                    {ok, _} = stream(Generator, [self()], #{owner => Owner}),
                    test_eventually:true(fun() -> has_mail(Owner) end),
                    Start = erlang:monotonic_time(millisecond),
                    End(Owner),
                    receive
                        <<"closed">> -> ok
                    end,
                    erlang:monotonic_time(millisecond) - Start
                end
             || _ <- lists:seq(1, 5)
            ],
            ct:pal("~s: closed after ~p ms", [Generator, Took]),
            ?assert(lists:min(Took) =< 50)
        end
     || Generator <- ?config(generators, Config)
    ].

-spec owner_is_dead_at_the_start(ct_suite:ct_config()) -> term().
owner_is_dead_at_the_start(Config) ->
    %% A stream for an owner that is gone runs for nobody, and is over at once.
    start(#{workers => 1}, Config),
    {Owner, Monitor} = spawn_monitor(fun() -> ok end),
    receive
        {'DOWN', Monitor, process, Owner, _} -> ok
    end,
    [{ok, _} = stream(numbers, [self()], #{owner => Owner}) || _ <- lists:seq(1, 20)],
    test_leftovers:none().

-spec owner_lives_on_a_node_that_goes_down(ct_suite:ct_config()) -> term().
owner_lives_on_a_node_that_goes_down(Config) ->
    %% When an owner's node goes down, its generators are closed.
    case test_other_node:distribution() of
        ok ->
            start(#{workers => 1}, Config),
            {Peer, Node} = test_other_node:start([]),
            Generators = ?config(generators, Config),
            [
                begin
                    Owner = spawn(Node, timer, sleep, [infinity]),
                    {ok, _} = stream(Generator, [self()], #{owner => Owner}),
                    test_eventually:true(fun() -> has_mail(Owner) end)
                end
             || Generator <- Generators
            ],
            ok = peer:stop(Peer),
            [
                receive
                    <<"closed">> -> ok
                end
             || _ <- Generators
            ],
            test_leftovers:none();
        Skip ->
            Skip
    end.

-spec caller_is_killed(ct_suite:ct_config()) -> term().
caller_is_killed(Config) ->
    %% Callers that are killed at any moment leave no request and no count behind.
    start(#{workers => 2}, Config),
    Callers = [
        spawn(fun() ->
            case N rem 3 of
                0 -> py:eval("1", #{}, #{pool => test});
                1 -> stream(idle, [], #{});
                2 -> py:stream(failing, numbers, [], #{}, #{pool => test})
            end,
            timer:sleep(infinity)
        end)
     || N <- lists:seq(1, 200)
    ],
    [
        begin
            N rem 7 =:= 0 andalso erlang:yield(),
            exit(Caller, kill)
        end
     || {N, Caller} <- lists:zip(lists:seq(1, 200), Callers)
    ],
    test_leftovers:none().

%%% The ladder.

-spec interrupt_a_stream(ct_suite:ct_config()) -> term().
interrupt_a_stream(Config) ->
    %% Python code that never yields is broken off after the grace period, wherever it is:
    %% in the generator, in its finally block, in what encodes a value or reports an error.
    start(#{workers => 1, interrupt_after => 100, interrupt_grace => 100}, Config),
    Generators = [
        spin,
        async_spin,
        spin_in_finally,
        async_takes_no_notice,
        stuck_in_encoder,
        async_stuck_in_encoder,
        stuck_in_reason
    ],
    [
        begin
            {_, Ref} = started(Generator),
            timer:sleep(100),
            py:stream_cancel(Ref),
            ?assertEqual([{error, cancelled}], [Event || Event = {error, _} <- each_event(Ref)]),
            test_leftovers:none()
        end
     || Generator <- Generators
    ],
    ?assertMatch(#{restarts := 0}, py:info(test)).

-spec interrupt_a_call(ct_suite:ct_config()) -> term().
interrupt_a_call(Config) ->
    %% So is a call that has timed out, sync or async, and code of py:exec.
    start(#{workers => 1, interrupt_after => 100}, Config),
    [
        ?assertEqual({error, timeout}, py:call(failing, F, [], #{}, #{pool => test, timeout => 200}))
     || F <- [spin_in_call, async_spin_in_call]
    ],
    ?assertEqual({error, timeout}, py:exec("while True: pass", #{pool => test, timeout => 200})),
    test_leftovers:none(),
    ?assertEqual({ok, 2}, py:eval("1 + 1", #{}, #{pool => test})),
    ?assertMatch(#{restarts := 0, journal := 0}, py:info(test)).

-spec interrupt_by_timeout(ct_suite:ct_config()) -> term().
interrupt_by_timeout(Config) ->
    %% A stream's timeout goes the same way.
    start(#{workers => 1, interrupt_after => 100}, Config),
    {ok, Ref} = stream(spin, [], #{timeout => 300}),
    ?assertMatch([{data, _}, {error, timeout}], each_event(Ref)),
    test_leftovers:none(),
    ?assertMatch(#{restarts := 0}, py:info(test)).

-spec interrupt_not_at_once(ct_suite:ct_config()) -> term().
interrupt_not_at_once(Config) ->
    %% The owner has its answer long before the code is interrupted.
    start(#{workers => 1, interrupt_after => 2000}, Config),
    {_, Ref} = started(spin),
    %% It spins behind its first value.
    timer:sleep(100),
    Start = erlang:monotonic_time(millisecond),
    py:stream_cancel(Ref),
    ?assertEqual([{error, cancelled}], each_event(Ref)),
    ?assert(erlang:monotonic_time(millisecond) - Start < 1000),
    test_eventually:equal(1, fun() ->
        #{workers := [#{requests := Requests}]} = py:info(test),
        Requests
    end).

-spec kill_after(ct_suite:ct_config()) -> term().
kill_after(Config) ->
    %% What no exception breaks off is ended with its worker, whose other streams and calls are
    %% ended, too; those of other workers are not.
    start(#{workers => 1, interrupt_after => 50, kill_after => 300}, Config),
    [
        begin
            eventually_ok(fun() -> call(pid, []) end),
            {Python, Other} = started(async_idle),
            {Python, Ref} = stuck(Generator, Args),
            py:stream_cancel(Ref),
            ?assertEqual([{error, cancelled}], each_event(Ref)),
            ?assertEqual([{error, {worker_exit, kill_after}}], each_event(Other)),
            ?assert(is_gone_within(2000, Python))
        end
     || {Generator, Args} <- [{stubborn, []}, {sleep_in_c, []}, {hold_the_lock, [60]}]
    ],
    eventually_ok(fun() -> call(pid, []) end),
    ?assertMatch(#{restarts := 3}, py:info(test)).

-spec kill_after_spares_what_ends(ct_suite:ct_config()) -> term().
kill_after_spares_what_ends(Config) ->
    %% A worker whose cancelled requests end in time lives on.
    %% Long enough for a slow machine to interrupt them all before.
    start(#{workers => 1, interrupt_after => 50, kill_after => 4000}, Config),
    {Python, Ref} = started(async_idle),
    Refs = [element(2, started(spin)) || _ <- lists:seq(1, 5)],
    [py:stream_cancel(R) || R <- Refs],
    [?assertEqual([{error, cancelled}], each_event(R)) || R <- Refs],
    %% Nothing happens then, which only time can show.
    timer:sleep(4200),
    ?assertEqual({ok, Python}, call(pid, [])),
    py:stream_cancel(Ref, [flush]).

-spec what_has_ended_is_watched_no_more(ct_suite:ct_config()) -> term().
what_has_ended_is_watched_no_more(Config) ->
    %% A worker keeps nothing of the requests that were cancelled and have ended.
    start(#{workers => 1, kill_after => 3600000}, Config),
    #{workers := [#{pid := Worker}]} = py:info(test),
    Kept = fun() -> [map_size(Map) || Map <- tuple_to_list(sys:get_state(Worker)), is_map(Map)] end,
    Before = Kept(),
    Refs = [element(2, started(async_idle)) || _ <- lists:seq(1, 20)],
    [py:stream_cancel(Ref, [flush]) || Ref <- Refs],
    test_eventually:equal(Before, Kept),
    %% Nor of those that had ended when the cancel came, or that were never written.
    {ok, ToWorker} = py_pool:choose(test),
    [py_port:cancel(ToWorker, Request) || Request <- [self(), make_ref()]],
    ?assertNotEqual(Before, Kept()),
    test_eventually:equal(Before, Kept).

-spec timeouts_go_up_the_ladder(ct_suite:ct_config()) -> term().
timeouts_go_up_the_ladder(Config) ->
    %% Timeouts of streams and calls reach kill_after as cancels do.
    start(#{workers => 1, interrupt_after => 50, kill_after => 200}, Config),
    {ok, First} = call(pid, []),
    {ok, Ref} = stream(hold_the_lock, [self(), 60], #{timeout => 200}),
    ?assertMatch([{data, First}, {error, timeout}], each_event(Ref)),
    ?assert(is_gone_within(2000, First)),
    {ok, Second} = eventually_ok(fun() -> call(pid, []) end),
    ?assertEqual(
        {error, timeout},
        py:call(failing, hold_the_lock_in_call, [60], #{}, #{pool => test, timeout => 100})
    ),
    ?assert(is_gone_within(2000, Second)),
    eventually_ok(fun() -> call(pid, []) end).

-spec a_held_lock_is_the_worker_s_alone(ct_suite:ct_config()) -> term().
a_held_lock_is_the_worker_s_alone(Config) ->
    %% C code that keeps the interpreter lock holds up its own worker and nobody else: other
    %% workers serve, and cancels are answered.
    start(#{workers => 2}, Config),
    {Stuck, Ref} = stuck(hold_the_lock, [1.5]),
    Other = [Pid || {ok, Pid} <- [call(pid, []) || _ <- lists:seq(1, 5)]],
    ?assertEqual(false, lists:member(Stuck, Other)),
    py:stream_cancel(Ref),
    ?assertEqual([{error, cancelled}], each_event(Ref)).

-spec a_stopped_worker_is_replaced(ct_suite:ct_config()) -> term().
a_stopped_worker_is_replaced(Config) ->
    %% One that a signal has stopped answers nothing for good. Without work nobody misses it.
    start(#{workers => 1}, Config),
    {ok, Python} = call(pid, []),
    ok = test_os_process:stop(Python),
    [Worker] = test_workers:ready(test),
    %% Longer than it may be deaf, which only time can show.
    timer:sleep(2000),
    ?assertEqual([Worker], test_workers:ready(test)),
    {ok, Ref} = stream(async_idle, [], #{}),
    ?assertEqual([{error, {worker_exit, unresponsive}}], each_event(Ref)),
    ?assert(is_gone_within(2000, Python)),
    eventually_ok(fun() -> call(pid, []) end).

-spec a_deaf_worker_is_waited_for(ct_suite:ct_config()) -> term().
a_deaf_worker_is_waited_for(Config) ->
    %% C code may keep the interpreter lock for as long as it needs; the log says so once.
    ok = logger:add_handler(?MODULE, ?MODULE, #{level => warning, config => self()}),
    try
        start(#{workers => 1}, Config),
        %% No other thread asks for the lock meanwhile.
        ok = py:exec("import sys; sys.setswitchinterval(100)", #{pool => test}),
        ?assertEqual({ok, none}, call(hold_the_lock_in_call, [4])),
        ?assertMatch(#{restarts := 0}, py:info(test)),
        ?assertEqual(["a Python worker does not answer"], logged())
    after
        logger:remove_handler(?MODULE)
    end.

-spec a_deaf_worker_is_replaced(ct_suite:ct_config()) -> term().
a_deaf_worker_is_replaced(Config) ->
    %% If the pool says for how long at most, with whatever it is busy.
    start(#{workers => 1, deaf_after => 1000}, Config),
    {ok, Python} = call(pid, []),
    ?assertEqual({error, {worker_exit, unresponsive}}, call(hold_the_lock_in_call, [60])),
    ?assert(is_gone_within(2000, Python)),
    eventually_ok(fun() -> call(pid, []) end).

%% @doc Hands on what the node logs.
-spec log(logger:log_event(), logger:handler_config()) -> term().
log(#{msg := {report, #{text := Text}}}, #{config := To}) -> To ! {logged, Text};
log(_Other, _Config) -> ok.

logged() ->
    receive
        {logged, Text} -> [Text | logged()]
    after 0 -> []
    end.

%%% Descriptors.

-spec full_disk(ct_suite:ct_config()) -> term().
full_disk(Config) ->
    %% Where nothing can be written to standard error, everything else works.
    start(#{workers => 1, python => wrapper("exec 2>/dev/full", Config)}, Config),
    {ok, Python} = call(write_everywhere, []),
    ok = py:exec("raise_later = 1", #{pool => test}),
    {Python, Ref} = started(idle),
    py:stream_cancel(Ref, [flush]),
    ?assertEqual({ok, Python}, call(pid, [])).

-spec closed_stderr(ct_suite:ct_config()) -> term().
closed_stderr(Config) ->
    %% The same where it is closed, from the start or by user code.
    start(#{workers => 1, python => wrapper("exec 2>&- 1>&-", Config)}, Config),
    {ok, Python} = call(write_everywhere, []),
    {ok, _} = call(close_stderr, []),
    {ok, Python} = call(write_everywhere, []),
    {Python, Ref} = started(idle),
    py:stream_cancel(Ref, [flush]).

%% An interpreter that does something before it is one.
wrapper(Command, Config) ->
    File = filename:join(?config(priv_dir, Config), "wrapper.sh"),
    Python = os:getenv("ERLANG_PYTHON", "python3"),
    ok = file:write_file(File, ["#!/bin/sh\n", Command, "\nexec ", Python, " \"$@\"\n"]),
    ok = file:change_mode(File, 8#755),
    File.

%%% Helpers.

start(Opts, Config) ->
    Path = #{python_path => [?config(path, Config)], preload => [failing]},
    {ok, _} = py:start_pool(test, maps:merge(Path, Opts)).

call(Function, Args) ->
    py:call(failing, Function, Args, #{}, #{pool => test}).

stream(Generator, Args, Opts) ->
    py:stream_start(failing, Generator, Args, Opts#{pool => test}).

%% A stream whose first value, its process's number, is there.
started(Generator) ->
    started(Generator, []).

started(Generator, Args) ->
    {ok, Ref} = stream(Generator, Args, #{}),
    {ok, Pid} = py:stream_next(Ref, ?LONG),
    {Pid, Ref}.

%% The same, once it is where nothing gets it out.
stuck(Generator, Args) ->
    Started = started(Generator, [self() | Args]),
    receive
        <<"stuck">> -> Started
    after ?LONG -> error({not_stuck, Generator})
    end.

nothing_more(Ref) ->
    receive
        {py_stream, Ref, Event} -> error({after_the_end, Event})
    after 0 -> ok
    end.

workers() ->
    #{workers := Workers} = py:info(test),
    Workers.

eventually_ok(Fun) ->
    test_eventually:true(fun() -> element(1, Fun()) =:= ok end),
    Fun().

how(Config) -> atom_to_binary(?config(how, Config)).

status(Config) ->
    case ?config(how, Config) of
        exit -> 7;
        kill -> {signal, 9};
        segfault -> {signal, 11};
        abort -> {signal, 6}
    end.

is_gone_within(Ms, OsPid) ->
    Deadline = erlang:monotonic_time(millisecond) + Ms,
    test_eventually:true(fun() -> os:cmd("kill -0 " ++ integer_to_list(OsPid)) =/= [] end),
    %% Half as long again for the machine's other work.
    erlang:monotonic_time(millisecond) < Deadline + Ms div 2.

sleeper() ->
    receive
        stop -> ok
    end.

has_mail(Pid) ->
    {message_queue_len, Length} = erpc:call(node(Pid), erlang, process_info, [Pid, message_queue_len]),
    Length > 0.
