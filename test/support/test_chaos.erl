%% @doc Many streams on a pool whose workers are killed all the time.
%%
%% `streams' processes keep a stream each going, and start another where one has ended. They
%% take each value and compare it with the one that must come. At fixed intervals the Python
%% process of a worker is killed. What is lost or doubled is counted, and must be nothing.
-module(test_chaos).

-export([run/1]).
-export_type([options/0, figures/0]).

-type options() :: #{
    milliseconds := pos_integer(),
    %% How many streams at all times.
    streams := pos_integer(),
    %% How long from one death to the next, in milliseconds.
    every := pos_integer()
}.
-type figures() :: #{atom() => term()}.

-define(MODULE_NAME, numbers_from_zero).
%% Longer than anything takes that is not lost.
-define(LOST_MS, 15000).

%% @doc Runs chaos in the pool `default' of a running application, and returns what was
%% counted: streams `started', by how they ended, `lost' and `doubled' ones, `{wrong, Reason}' ones; the
%% workers `killed'; the `slowest_recovery_ms' from a death to a worker in its place, the
%% longest time `without_worker_ms'; the memory of both sides, in bytes.
-spec run(options()) -> figures().
run(#{milliseconds := Ms, streams := Streams, every := Every}) ->
    Before = memory(),
    Stop = atomics:new(1, []),
    Watch = spawn_monitor(fun() -> watch(Stop, now_ms(), 0) end),
    Readers = [
        spawn_monitor(fun() -> exit({figures, reader(N, Stop, #{})}) end)
     || N <- lists:seq(1, Streams)
    ],
    Killed = killer(now_ms() + Ms, Every, []),
    atomics:put(Stop, 1, 1),
    Sum = lists:foldl(fun add/2, #{lost => 0, doubled => 0}, [figures(R) || R <- Readers]),
    #{size := Size} = py:info(default),
    test_eventually:equal(Size, fun() -> length(test_workers:ready(default)) end),
    test_workers:idle(default),
    Sum#{
        killed => length(Killed),
        slowest_recovery_ms => lists:max([0 | [figures(Recovery) || Recovery <- Killed]]),
        without_worker_ms => figures(Watch),
        memory_before => Before,
        memory_after => memory()
    }.

%% Each part of it is a process that ends with its figures.
figures({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, {figures, Figures}} -> Figures;
        {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
    end.

add(Count, Sum) ->
    maps:fold(fun(Key, N, Acc) -> Acc#{Key => N + maps:get(Key, Acc, 0)} end, Sum, Count).

%%% A reader runs one stream after another.

reader(N, Stop, Count) ->
    case atomics:get(Stop, 1) of
        1 ->
            Count;
        0 ->
            {Function, Length, Opts, Expected} = kind(N rem 6),
            case py:stream_start(?MODULE_NAME, Function, [Length], Opts) of
                {ok, Ref} ->
                    Ends = [started, read(Ref, 0, Expected) | after_end(Ref)],
                    reader(N + 1, Stop, plus(Ends, Count));
                {error, {worker_exit, _}} ->
                    %% Both workers are dead for the moment.
                    pause(1),
                    reader(N, Stop, plus([refused], Count))
            end
    end.

plus(Keys, Count) ->
    lists:foldl(fun(Key, Acc) -> add(#{Key => 1}, Acc) end, Count, Keys).

%% What to run, and how many values must come before `done', or until it is cancelled.
kind(0) -> {count, 50, #{}, {done, 50}};
kind(1) -> {acount, 2000, #{window => 16}, {done, 2000}};
kind(2) -> {forever, 0, #{batch => 8, window => 64}, {cancel, 3000}};
kind(3) -> {aforever, 0, #{take => 500}, {done, 500}};
kind(4) -> {slow, 30, #{}, {done, 30}};
%% One more than there are: that there are no more is found out when one more may come.
kind(5) -> {aslow, 30, #{demand => 31}, {done, 30}}.

read(Ref, Next, {cancel, Enough}) when Next >= Enough ->
    ok = py:stream_cancel(Ref, [flush]),
    cancelled;
read(Ref, Next, Expected) ->
    case py:stream_next(Ref, ?LOST_MS) of
        {ok, Values} when is_list(Values) -> values(Values, Ref, Next, Expected);
        {ok, Value} -> values([Value], Ref, Next, Expected);
        done when Expected =:= {done, Next} -> done;
        done -> lost;
        {error, {worker_exit, _}} -> worker_exit;
        {error, Reason} -> {wrong, Reason};
        timeout -> lost
    end.

values([], Ref, Next, Expected) -> read(Ref, Next, Expected);
values([Next | Rest], Ref, Next, Expected) -> values(Rest, Ref, Next + 1, Expected);
values([Value | _], _Ref, Next, _Expected) when is_integer(Value), Value < Next -> doubled;
values(_, _Ref, _Next, _Expected) -> lost.

%% Nothing is left of it, nor of those before it: the mailbox is the reader's own.
after_end(Ref) ->
    case {py:stream_next(Ref, 0), process_info(self(), messages)} of
        {timeout, {messages, []}} -> [];
        _ -> [doubled]
    end.

%%% Killing.

%% The processes that will know how long each recovery took.
killer(End, Every, Recoveries) ->
    Since = now_ms(),
    case test_workers:ready(default) of
        _ when Since >= End ->
            Recoveries;
        [] ->
            pause(Every),
            killer(End, Every, Recoveries);
        Workers ->
            %% Now the one, now the other.
            Worker = lists:nth(1 + length(Recoveries) rem length(Workers), Workers),
            Monitor = monitor(process, Worker),
            %% Asked before it dies, so that the worker that takes its place is not seen.
            Others = test_workers:ready(default) -- [Worker],
            ok = test_workers:kill(Worker),
            receive
                {'DOWN', Monitor, process, Worker, _} -> ok
            end,
            Recovery = spawn_monitor(fun() -> recovery(Since, Others, Worker) end),
            pause(max(0, Since + Every - now_ms())),
            killer(End, Every, [Recovery | Recoveries])
    end.

%% Until the pool has a worker that it did not have at the time of the death.
recovery(Since, Others, Dead) ->
    test_eventually:true(fun() -> test_workers:ready(default) -- [Dead | Others] =/= [] end),
    exit({figures, now_ms() - Since}).

%% How long there was no worker at all, at most.
watch(Stop, Since, Longest) ->
    Now = now_ms(),
    case {atomics:get(Stop, 1), test_workers:ready(default)} of
        {1, _} ->
            exit({figures, Longest});
        {0, []} ->
            pause(5),
            watch(Stop, Since, max(Longest, Now - Since));
        {0, _} ->
            pause(5),
            watch(Stop, Now, Longest)
    end.

pause(Ms) ->
    receive
    after Ms -> ok
    end.

memory() ->
    [erlang:garbage_collect(Pid) || Pid <- processes()],
    Python = [test_workers:memory(Pid) || Pid <- test_workers:ready(default)],
    #{node => erlang:memory(total), python => lists:sum(Python)}.

now_ms() ->
    erlang:monotonic_time(millisecond).
