%% @doc What must not grow, however often something is done.
%%
%% Each case does a thing some times, to have all code loaded and all caches filled, and
%% measures; then it does it very often, and measures again. Whatever is counted must be as
%% it was. Memory may differ by what is stated here, whatever the number of repetitions.
%%
%% The OS variable SOAK is a percentage of a million streams, a hundred thousand calls, ten
%% thousand cancels and a thousand deaths; without it the numbers are small.
-module(py_leak_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1]).
-export([streams/1, calls/1, cancels/1, timeouts/1, owners/1, deaths/1, threads/1]).

%% What memory may differ by after any number of repetitions, in bytes. Less would find the
%% allocators' own movements, more would let through 100 bytes for each of 100,000.
-define(NODE_BYTES, 4 * 1024 * 1024).
-define(PYTHON_BYTES, 8 * 1024 * 1024).
%% Atoms of code that is loaded late. One for every ten repetitions would be seen.
-define(ATOMS, 20).
%% How many do the same thing at once, and how often for a start.
-define(AT_ONCE, 4).
-define(WARM_UP, 100).
%% See py_pool_manager.
-define(QUICK_DEATH_MS, 100).
%% Threads that stay when there is nothing to do (thread_pool.py: MIN_IDLE).
-define(SPARE_THREADS, 4).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 5 + 60 * percent()}}].

-spec all() -> [atom()].
all() ->
    [streams, calls, cancels, timeouts, owners, deaths, threads].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config() | {skip, string()}.
init_per_suite(Config) ->
    case filelib:is_dir("/proc/self/fd") of
        true -> start(Config);
        false -> {skip, "this system does not say what a process holds"}
    end.

start(Config) ->
    Pool = #{workers => 2, python_path => [?config(data_dir, Config)], interrupt_after => 20},
    ok = application:set_env(erlang_python, pools, #{default => Pool}),
    %% A caller that is killed between counting a request and making it leaves the counter too high
    %% until two checks have found the same.
    ok = application:set_env(erlang_python, liveness_ms, 500),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, liveness_ms),
    ok = application:unset_env(erlang_python, pools).

%% Short streams of every kind leave nothing.
-spec streams(ct_suite:ct_config()) -> ok.
streams(_Config) ->
    no_growth(times(10000, 1000000), fun
        (N) when N rem 4 =:= 0 ->
            {ok, [0, 1, 2]} = py:stream(leaky, count, [3]);
        (N) when N rem 4 =:= 1 ->
            {ok, Ref} = py:stream_start(leaky, acount, [3], #{batch => 2}),
            {ok, 3} = py:stream_fold(fun(_, Sum) -> {cont, Sum + 1} end, 0, Ref);
        (N) when N rem 4 =:= 2 ->
            %% The name of a class that Erlang does not know makes no atom.
            Name = iolist_to_binary(["E", integer_to_list(N), "_", ref_to_list(make_ref())]),
            {error, {Name, <<"that was all">>}} = py:stream(leaky, failing, [Name]);
        (_) ->
            {ok, [0, 1]} = py:stream(leaky, forever, [], #{}, #{take => 2})
    end).

%% Calls, evaluations and casts leave nothing.
-spec calls(ct_suite:ct_config()) -> ok.
calls(_Config) ->
    no_growth(times(10000, 100000), fun
        (N) when N rem 4 =:= 0 -> {ok, N} = py:call(leaky, echo, [N]);
        (N) when N rem 4 =:= 1 -> {ok, N} = py:call(leaky, aecho, [N]);
        (N) when N rem 4 =:= 2 -> {ok, N} = py:await(py:spawn_call(leaky, echo, [N]));
        (N) -> {ok, N} = py:eval(<<"n">>, #{n => N})
    end).

%% Streams that are cancelled, at their start or later, by one or by several, leave nothing.
-spec cancels(ct_suite:ct_config()) -> ok.
cancels(_Config) ->
    no_growth(times(1500, 10000), fun(N) ->
        Function = lists:nth(1 + N rem 3, [alate, forever, aforever]),
        {ok, Ref} = py:stream_start(leaky, Function, [], #{window => 1 + N rem 50}),
        N rem 7 > 2 andalso ({ok, 0} = py:stream_next(Ref)),
        case N rem 5 of
            0 ->
                ok = py:stream_cancel(Ref),
                ok = py:stream_cancel(Ref),
                {error, cancelled, ok} = py:stream_fold(fun(_, ok) -> {cont, ok} end, ok, Ref),
                ok = py:stream_cancel(Ref);
            _ ->
                ok = py:stream_cancel(Ref, [flush])
        end
    end).

%% Calls and streams that are given up, and interrupted, leave nothing.
-spec timeouts(ct_suite:ct_config()) -> ok.
timeouts(_Config) ->
    no_growth(times(200, 10000), fun
        (N) when N rem 10 =:= 0 -> {error, timeout} = py:call(leaky, spin, [], #{}, 2);
        (N) when N rem 10 < 5 -> {error, timeout} = py:call(leaky, asleep, [], #{}, 2);
        (N) when N rem 10 < 8 -> {error, timeout} = py:await(py:spawn_call(leaky, asleep, []), 2);
        (_) -> {error, timeout} = py:stream(leaky, asleep, [], #{}, #{timeout => 2})
    end).

%% Owners and callers that are killed, at whatever moment, leave nothing.
-spec owners(ct_suite:ct_config()) -> ok.
owners(_Config) ->
    no_growth(times(1000, 10000), fun(N) ->
        Function = lists:nth(1 + N rem 4, [forever, aforever, acount, asleep]),
        {Pid, Monitor} = spawn_monitor(fun() -> owner(Function) end),
        N rem 5 > 0 andalso pause(N rem 5),
        exit(Pid, kill),
        receive
            {'DOWN', Monitor, process, Pid, _} -> ok
        end
    end).

owner(asleep) ->
    py:await(py:spawn_call(leaky, asleep, []));
owner(acount) ->
    %% Not more: each alias of a process that is killed costs OTP 25 about 70 bytes for good,
    %% see docs/failure.md. All of them together stay below what is allowed.
    [py:spawn_call(leaky, echo, [N]) || N <- lists:seq(1, 10)];
owner(Function) ->
    {ok, _} = py:stream_start(leaky, Function, []),
    {ok, _} = py:stream_start(leaky, Function, [], #{demand => 0}),
    receive
        stop -> ok
    end.

pause(Ms) ->
    receive
    after Ms -> ok
    end.

%% Workers that are killed while they have streams and calls leave nothing.
-spec deaths(ct_suite:ct_config()) -> ok.
deaths(_Config) ->
    die(),
    Before = measured_before(),
    Deaths = times(20, 1000),
    [die() || _ <- lists:seq(1, Deaths)],
    compare(Deaths, Before).

die() ->
    %% One that dies sooner counts as one that cannot live, and is started after a pause.
    pause(?QUICK_DEATH_MS),
    {ok, Sync} = py:stream_start(leaky, forever, []),
    {ok, Async} = py:stream_start(leaky, aforever, []),
    Calls = [py:spawn_call(leaky, asleep, []) || _ <- [1, 2, 3]],
    [ok = test_workers:kill(Worker) || Worker <- test_workers:ready(default)],
    [
        {error, {worker_exit, _}, ok} = py:stream_fold(fun(_, ok) -> {cont, ok} end, ok, Ref)
     || Ref <- [Sync, Async]
    ],
    [{error, {worker_exit, _}} = py:await(Ref) || Ref <- Calls],
    test_workers:idle(default).

%% Threads beyond the spare ones end when they have been idle.
-spec threads(ct_suite:ct_config()) -> ok.
threads(_Config) ->
    %% More sync streams at once than there are spare threads.
    Refs = [
        begin
            {ok, Ref} = py:stream_start(leaky, forever, [], #{window => 1}),
            {ok, 0} = py:stream_next(Ref),
            Ref
        end
     || _ <- lists:seq(1, 40)
    ],
    test_eventually:true(fun() -> lists:sum(threads()) > 2 * ?SPARE_THREADS end),
    [ok = py:stream_cancel(Ref, [flush]) || Ref <- Refs],
    IsSpare = fun() -> lists:all(fun(Threads) -> Threads =< ?SPARE_THREADS end, threads()) end,
    %% They stay for longer than one wait takes.
    try
        test_eventually:true(IsSpare)
    catch
        error:{never, _, _} -> test_eventually:true(IsSpare)
    end.

threads() ->
    #{workers := Workers} = py:info(default),
    [Threads || #{threads := Threads} <- Workers].

%%% Doing it, and measuring.

no_growth(Times, Fun) ->
    at_once(?WARM_UP, Fun),
    Before = measured_before(),
    at_once(Times, Fun),
    compare(Times, Before).

%% Measuring loads code, too, and code has atoms.
measured_before() ->
    _ = measure(),
    measure().

%% Several processes share the work; each ends with an error if anything goes wrong.
at_once(Times, Fun) ->
    Share = Times div ?AT_ONCE,
    Workers = [
        spawn_monitor(fun() ->
            lists:foreach(Fun, lists:seq(I * Share + 1, (I + 1) * Share)),
            [] = mail()
        end)
     || I <- lists:seq(0, ?AT_ONCE - 1)
    ],
    [
        receive
            {'DOWN', Monitor, process, Pid, Reason} -> ?assertEqual(normal, Reason)
        end
     || {Pid, Monitor} <- Workers
    ],
    ok.

mail() ->
    {messages, Messages} = process_info(self(), messages),
    Messages.

compare(Times, Before) ->
    try
        test_eventually:equal(same, fun() -> compared(Before, measure()) end)
    after
        {Was, WasBytes} = Before,
        {Is, IsBytes} = measure(),
        ct:pal("after ~b times~nwas ~p~n ~p~nis ~p~n ~p", [Times, Was, WasBytes, Is, IsBytes])
    end.

compared({Counts, Bytes}, {NewCounts, NewBytes}) ->
    Grown = [
        {Key, maps:get(Key, Counts), New}
     || {Key, New} <- maps:to_list(NewCounts), New > maps:get(Key, Counts) + slack(Key)
    ],
    Swollen = [
        {Key, maps:get(Key, Bytes), New}
     || {Key, New} <- maps:to_list(NewBytes), New > maps:get(Key, Bytes) + slack(Key)
    ],
    case Grown ++ Swollen of
        [] -> same;
        More -> More
    end.

slack(atoms) -> ?ATOMS;
slack(node_bytes) -> ?NODE_BYTES;
slack(python_bytes) -> ?PYTHON_BYTES;
slack(_) -> 0.

%% What is counted, and what is weighed.
measure() ->
    test_workers:idle(default),
    [erlang:garbage_collect(Pid) || Pid <- processes()],
    #{workers := Infos} = py:info(default),
    Ours = ours(),
    OsPids = [test_workers:os_pid(Pid) || Pid <- test_workers:ready(default)],
    Counts = #{
        processes => length(Ours),
        ports => length(erlang:ports()),
        rows => lists:sum([ets:info(Table, size) || Table <- tables()]),
        links => held(links, Ours),
        monitors => held(monitors, Ours),
        monitored_by => held(monitored_by, Ours),
        mail => held(messages, Ours),
        atoms => erlang:system_info(atom_count),
        tasks => lists:sum([Tasks || #{tasks := Tasks} <- Infos]),
        deadlines => lists:sum([deadlines(Worker) || #{pid := Worker} <- Infos]),
        descriptors => lists:sum([descriptors(OsPid) || OsPid <- OsPids]),
        programs => length(string:split(os:cmd("ps -o pid= --ppid " ++ erl_child_setup()), "\n", all))
    },
    {Counts, #{
        node_bytes => erlang:memory(total),
        python_bytes => lists:sum([test_workers:memory(Pid) || Pid <- test_workers:ready(default)])
    }}.

%% Each is asked, so that each has loaded as much as the others.
deadlines(Worker) ->
    {ok, Deadlines} = py:call(leaky, deadlines, [], #{}, #{pool => Worker}),
    Deadlines.

%% The processes that run this application's code, and nothing of the test's.
ours() ->
    {ok, Modules} = application:get_key(erlang_python, modules),
    [Pid || Pid <- processes(), Pid =/= self(), is_ours(Pid, Modules)].

is_ours(Pid, Modules) ->
    case process_info(Pid, [dictionary, initial_call, current_stacktrace]) of
        [{dictionary, Dictionary}, {initial_call, {M, _, _}}, {current_stacktrace, Stack}] ->
            {Initial, _, _} = proplists:get_value('$initial_call', Dictionary, {M, f, 0}),
            lists:any(
                fun(Module) -> lists:member(Module, Modules) end,
                [M, Initial | [Module || {Module, _, _, _} <- Stack]]
            );
        undefined ->
            false
    end.

held(Item, Pids) ->
    lists:sum([length(Held) || Pid <- Pids, {_, Held} <- [process_info(Pid, Item)]]).

tables() ->
    [Table || Table <- ets:all(), is_atom(Table), lists:prefix("py_", atom_to_list(Table))].

descriptors(OsPid) ->
    {ok, Names} = file:list_dir("/proc/" ++ OsPid ++ "/fd"),
    length(Names).

%% Whose children all programs are that this node runs, Python or not.
erl_child_setup() ->
    string:trim(os:cmd("pgrep -P " ++ os:getpid() ++ " erl_child_setup")).

%% So often here, and that share of so often in a soak.
times(Few, Many) ->
    case percent() of
        0 -> Few;
        Percent -> max(1, Many * Percent div 100)
    end.

percent() ->
    list_to_integer(os:getenv("SOAK", "0")).
