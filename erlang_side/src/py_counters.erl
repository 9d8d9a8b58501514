%% @doc What pools and workers have done, in counters that every process adds to and that
%% cost some nanoseconds; and the errors of a pool by their class.
%% @hidden
-module(py_counters).

-include("py_worker.hrl").

-export([tables/0, new/1, add/3, waits/1, error/2, forget/1]).
-export([read/1, errors/1]).
-export_type([counter/0, counters/0]).

-type counter() :: requests | streams | values | bytes | errors | timeouts | cancels | waits.
-type counters() :: counters:counters_ref().

-define(ERRORS, py_errors).

%% The most classes of errors that are counted by themselves in a pool; those that come later count as `other'.
%% A larger number costs memory where programs make classes as they run.
-define(MAX_CLASSES, 20).

-define(NAMES, [requests, streams, values, bytes, errors, timeouts, cancels, waits]).

%% @doc Makes the table of errors.
-spec tables() -> ok.
tables() ->
    ?ERRORS = ets:new(?ERRORS, [named_table, public, ordered_set, {write_concurrency, true}]),
    ok.

%% @doc Counters of a pool, which many processes add to at once, or of a worker.
-spec new(pool | worker) -> counters().
new(pool) -> counters:new(length(?NAMES), [write_concurrency]);
new(worker) -> counters:new(length(?NAMES), [atomics]).

%% @doc Counts something of a worker, and of its pool.
-spec add(#worker{}, counter(), non_neg_integer()) -> ok.
add(#worker{counters = {Pool, Own}}, Counter, N) ->
    Index = index(Counter),
    counters:add(Pool, Index, N),
    counters:add(Own, Index, N);
add(#worker{counters = none}, _Counter, _N) ->
    ok.

%% @doc A request waits while the pool has no worker.
-spec waits(counters()) -> ok.
waits(Pool) ->
    counters:add(Pool, index(waits), 1).

index(requests) -> 1;
index(streams) -> 2;
index(values) -> 3;
index(bytes) -> 4;
index(errors) -> 5;
index(timeouts) -> 6;
index(cancels) -> 7;
index(waits) -> 8.

%% @doc A request has ended with an error.
-spec error(#worker{}, py_error:reason()) -> ok.
error(Worker, timeout) ->
    add(Worker, timeouts, 1);
error(Worker, cancelled) ->
    add(Worker, cancels, 1);
error(Worker = #worker{pool = Pool}, Reason) ->
    add(Worker, errors, 1),
    count_class(Pool, class(Reason)).

class(Reason) when is_tuple(Reason) -> element(1, Reason);
class(Reason) -> Reason.

count_class(Pool, Class) ->
    try
        Key = {Pool, Class},
        IsNew = not ets:member(?ERRORS, Key),
        _ = case IsNew andalso length(ets:select(?ERRORS, [{{{Pool, '_'}, '_'}, [], [true]}])) >= ?MAX_CLASSES of
            true -> ets:update_counter(?ERRORS, {Pool, other}, 1, {{Pool, other}, 0});
            false -> ets:update_counter(?ERRORS, Key, 1, {Key, 0})
        end,
        ok
    catch
        %% The application has stopped.
        error:badarg -> ok
    end.

%% @doc Forgets the errors of a pool that is stopped.
-spec forget(py_pool:name()) -> ok.
forget(Pool) ->
    _ = ets:match_delete(?ERRORS, {{Pool, '_'}, '_'}),
    ok.

%% @doc What was counted.
-spec read(counters()) -> #{counter() => non_neg_integer()}.
read(Counters) ->
    maps:from_list([{Name, counters:get(Counters, index(Name))} || Name <- ?NAMES]).

%% @doc The errors of a pool by their class.
-spec errors(py_pool:name()) -> #{atom() | binary() => pos_integer()}.
errors(Pool) ->
    maps:from_list(ets:select(?ERRORS, [{{{Pool, '$1'}, '$2'}, [], [{{'$1', '$2'}}]}])).
