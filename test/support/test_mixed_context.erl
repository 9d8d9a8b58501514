%% @doc What all parts of the mixed chaos share: who is a user, what is noted, what is random.
-module(test_mixed_context).

-export([user_process/0, seed/2, note/2, note/3, one_of/1, pause/1, now_ms/0]).
-export_type([context/0]).

-type context() :: #{counts := ets:table(), atom() => term()}.

-define(DETAILS, 8).

%% Processes of the test are told from those of the library by this.
-spec user_process() -> term().
user_process() ->
    put(chaos_user, true).

-spec seed(Seed :: integer(), User :: integer()) -> ok.
seed(Seed, N) ->
    _ = rand:seed(exsss, {Seed, N, 0}),
    ok.

%% @doc Counts it.
-spec note(Key :: term(), context()) -> ok.
note(Key, Context) ->
    ets:update_counter(maps:get(counts, Context), Key, 1, {Key, 0}),
    ok.

%% @doc Counts it, and keeps the details of the first ones.
-spec note(Key :: term(), Detail :: term(), context()) -> ok.
note(Key, Detail, Context = #{counts := Counts}) ->
    note(Key, Context),
    N = ets:lookup_element(Counts, Key, 2),
    _ = N =< ?DETAILS andalso ets:insert(Counts, {{detail, {Key, N}}, {Key, Detail}}),
    ok.

-spec one_of([T, ...]) -> T.
one_of(List) ->
    lists:nth(rand:uniform(length(List)), List).

-spec pause(Milliseconds :: non_neg_integer()) -> ok.
pause(Ms) ->
    receive
    after Ms -> ok
    end.

-spec now_ms() -> integer().
now_ms() ->
    erlang:monotonic_time(millisecond).
