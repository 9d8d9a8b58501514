%% @doc Many streams at once: on one worker, past its limits, and on the workers of a pool.
-module(py_many_streams_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").
-import(test_flow, [start_stream/3, start_stream/4]).
-import(test_stream_events, [all_values/1, label/0, now_ms/0]).

-export([all/0, groups/0, suite/0]).
-export([init_per_group/2, end_per_group/2, end_per_testcase/2]).
-export([
    a_fast_stream_holds_nobody_back/1,
    many_at_once/1,
    past_max_threads_streams_wait/1,
    past_max_streams_the_answer_is_overloaded/1,
    streams_spread_over_workers/1,
    two_workers_compute_at_the_same_time/1
]).

-define(LONG, 20000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [{group, atom()}].
all() ->
    [{group, Name} || {Name, _, _} <- groups()].

-spec groups() -> [{atom(), [atom()], [atom()]}].
groups() ->
    Cases = [
        a_fast_stream_holds_nobody_back,
        many_at_once
    ],
    Pools = [
        past_max_threads_streams_wait,
        past_max_streams_the_answer_is_overloaded,
        streams_spread_over_workers,
        two_workers_compute_at_the_same_time
    ],
    [{sync, [], Cases}, {async, [], Cases}, {pools, [], Pools}].

-spec init_per_group(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_group(pools, Config) ->
    test_flow:start(sync, Config);
init_per_group(Group, Config) ->
    test_flow:start(Group, Config).

-spec end_per_group(atom(), ct_suite:ct_config()) -> ok.
end_per_group(_Group, _Config) ->
    test_flow:stop().

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok | {fail, term()}.
end_per_testcase(_Case, _Config) ->
    test_flow:end_of_case().

%% While a stream runs at full speed, another one's rare values, calls, demands and
%% cancels on the same worker take their usual time. (The bounds are far from what is
%% measured in docs/benchmarks.md: these machines do other things as well.)
-spec a_fast_stream_holds_nobody_back(ct_suite:ct_config()) -> ok.
a_fast_stream_holds_nobody_back(Config) ->
    Eater = spawn_link(fun Eat() ->
        receive
            {py_stream, _, {error, cancelled}} -> ok;
            _ -> Eat()
        end
    end),
    {ok, Fast} = start_stream(numbers, [label()], #{owner => Eater}, Config),
    Before = now_ms(),
    {ok, Rare} = start_stream(ticks, [20, 0.01], Config),
    ?assertEqual({lists:seq(0, 19), done}, all_values(Rare)),
    [?assertEqual({ok, N}, py:call(builtins, abs, [-N])) || N <- lists:seq(1, 20)],
    {ok, Asked} = start_stream(numbers, [label()], #{demand => 0}, Config),
    [
        begin
            ok = py:stream_demand(Asked, 1),
            ?assertEqual({ok, N}, py:stream_next(Asked, ?LONG))
        end
     || N <- lists:seq(0, 19)
    ],
    ok = py:stream_cancel(Asked),
    ?assertEqual({error, cancelled}, py:stream_next(Asked, ?LONG)),
    Took = now_ms() - Before,
    ok = py:stream_cancel(Fast),
    ct:log("took ~b ms", [Took]),
    ?assert(Took < 5000).

%% A thousand sync generators, or ten thousand async ones, that pause between their values
%% run side by side on one worker.
-spec many_at_once(ct_suite:ct_config()) -> {comment, string()}.
many_at_once(Config) ->
    Count =
        case ?config(flow, Config) of
            sync_flow -> 1000;
            async_flow -> 10000
        end,
    Before = now_ms(),
    Refs = [
        begin
            {ok, Ref} = start_stream(ticks, [3, 0.1], Config),
            Ref
        end
     || _ <- lists:seq(1, Count)
    ],
    [?assertEqual({[0, 1, 2], done}, all_values(Ref)) || Ref <- Refs],
    Took = now_ms() - Before,
    %% One after another they would take 300 ms each.
    ?assert(Took < Count * 300 div 10),
    {comment, lists:concat([Count, " streams in ", Took, " ms"])}.

%% Streams past `max_threads' wait for one, which shows in `info', and all are served.
-spec past_max_threads_streams_wait(ct_suite:ct_config()) -> ok.
past_max_threads_streams_wait(Config) ->
    {ok, _} = py:start_pool(narrow, pool(#{max_threads => 2}, Config)),
    Opts = #{pool => narrow, window => 1},
    Refs = [
        begin
            {ok, Ref} = py:stream_start(sync_flow, count, [5], Opts#{owner => test_sleeper:start()}),
            Ref
        end
     || _ <- lists:seq(1, 3)
    ],
    ?assertEqual(3, length(Refs)),
    test_eventually:equal([{2, 1}], fun() -> threads(narrow) end),
    %% Neither a call nor an async stream waits for them.
    ?assertEqual({ok, 1}, py:call(builtins, abs, [-1], #{}, #{pool => narrow})),
    ?assertEqual({ok, [0, 1]}, py:stream(async_flow, count, [2], #{}, #{pool => narrow})),
    %% Their turn is that of their start: with windows of one value, none of the last three
    %% can end before this process has read the first two.
    Own = [
        begin
            {ok, Ref} = py:stream_start(sync_flow, Function, [5], Opts),
            Ref
        end
     || Function <- [count_late, count, count, count, count]
    ],
    test_eventually:equal([{2, 6}], fun() -> threads(narrow) end),
    [ok = py:stream_cancel(Ref) || Ref <- Refs],
    [?assertEqual({lists:seq(0, 4), done}, all_values(Ref)) || Ref <- Own],
    test_eventually:equal([{0, 0}], fun() -> threads(narrow) end),
    ok = py:stop_pool(narrow).

%% Past `max_streams' the answer is `{error, overloaded}', until one has ended.
-spec past_max_streams_the_answer_is_overloaded(ct_suite:ct_config()) -> ok.
past_max_streams_the_answer_is_overloaded(Config) ->
    {ok, _} = py:start_pool(small, pool(#{max_streams => 3, workers => 2}, Config)),
    Opts = #{pool => small, demand => 0},
    %% Three on each of two workers.
    Refs = [
        begin
            {ok, Ref} = py:stream_start(sync_flow, numbers, [label()], Opts),
            Ref
        end
     || _ <- lists:seq(1, 6)
    ],
    ?assertEqual({error, overloaded}, py:stream_start(sync_flow, count, [1], Opts)),
    ?assertEqual({error, overloaded}, py:stream(sync_flow, count, [1], #{}, #{pool => small})),
    ?assertEqual({error, overloaded}, py:stream_eval("[1]", #{}, #{pool => small})),
    ?assertEqual({ok, 1}, py:call(builtins, abs, [-1], #{}, #{pool => small})),
    #{workers := Workers} = py:info(small),
    ?assertEqual([3, 3], [maps:get(streams, W) || W <- Workers]),
    ok = py:stream_cancel(hd(Refs), [flush]),
    test_eventually:true(fun() -> py:stream_eval("[1]", #{}, #{pool => small}) =:= {ok, [1]} end),
    ok = py:stop_pool(small),
    %% All that were left have got their terminal event.
    [
        ?assertEqual({[], {error, {worker_exit, stopped}}}, all_values(Ref))
     || Ref <- tl(Refs)
    ],
    ok.

%% Streams go to the worker that has the fewest requests.
-spec streams_spread_over_workers(ct_suite:ct_config()) -> ok.
streams_spread_over_workers(Config) ->
    {ok, _} = py:start_pool(wide, pool(#{workers => 3}, Config)),
    Opts = #{pool => wide, demand => 0},
    Start = fun() ->
        {ok, Ref} = py:stream_start(sync_flow, numbers, [label()], Opts),
        Ref
    end,
    Refs = [Start() || _ <- lists:seq(1, 12)],
    Loads = fun() ->
        #{workers := Workers} = py:info(wide),
        lists:sort([maps:get(streams, W) || W <- Workers])
    end,
    ?assertEqual([4, 4, 4], Loads()),
    %% Where some have ended, there the next ones go.
    [ok = py:stream_cancel(Ref, [flush]) || Ref <- lists:sublist(Refs, 5)],
    test_eventually:equal(7, fun() -> lists:sum(Loads()) end),
    [Start() || _ <- lists:seq(1, 5)],
    ?assertEqual([4, 4, 4], Loads()),
    ok = py:stop_pool(wide).

%% Two streams that compute do so in two processes at the same time.
-spec two_workers_compute_at_the_same_time(ct_suite:ct_config()) -> ok.
two_workers_compute_at_the_same_time(Config) ->
    {ok, _} = py:start_pool(pair, pool(#{workers => 2}, Config)),
    Folder = filename:join(?config(priv_dir, Config), "working"),
    ok = file:make_dir(Folder),
    Refs = [
        begin
            {ok, Ref} = py:stream_start(sync_flow, working, [list_to_binary(Folder), 2], #{pool => pair}),
            Ref
        end
     || _ <- [1, 2]
    ],
    [{[A], done}, {[B], done}] = [all_values(Ref) || Ref <- Refs],
    ?assertNotEqual(A, B),
    ok = py:stop_pool(pair).

%%% Helpers.

threads(Pool) ->
    #{workers := Workers} = py:info(Pool),
    [{Running, Waiting} || #{sync_streams := Running, waiting_streams := Waiting} <- Workers].

pool(Opts, Config) ->
    maps:merge(#{workers => 1, python_path => ?config(path, Config)}, Opts).
