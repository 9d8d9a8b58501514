%% @doc Takes a stream's events out of the caller's mailbox.
-module(test_stream_events).

-export([all_events/1, all_values/1, batch_events/1, each_event/1, next_values/2, rest/1, take/2]).
-export([label/0, now_ms/0]).

%% Longer than anything takes that comes at all.
-define(LIMIT_MS, 20000).

-type terminal() :: done | {error, py_error:reason()}.

%% @doc The values, which come one by one, and the terminal event.
-spec all_events(reference()) -> {[term()], terminal()}.
all_events(Ref) ->
    all_events(Ref, []).

all_events(Ref, Values) ->
    case event(Ref) of
        {data, Value} -> all_events(Ref, [Value | Values]);
        Terminal -> {lists:reverse(Values), terminal(Terminal)}
    end.

%% @doc The same for a stream that may send batches.
-spec all_values(reference()) -> {[term()], terminal()}.
all_values(Ref) ->
    all_values(Ref, []).

all_values(Ref, Values) ->
    case event(Ref) of
        {data, Value} -> all_values(Ref, [Value | Values]);
        {batch, Batch} -> all_values(Ref, lists:reverse(Batch, Values));
        Terminal -> {lists:reverse(Values), terminal(Terminal)}
    end.

%% @doc The batches of a stream that sends nothing else, and the terminal event.
-spec batch_events(reference()) -> {[[term()]], terminal()}.
batch_events(Ref) ->
    batch_events(Ref, []).

batch_events(Ref, Batches) ->
    case event(Ref) of
        {batch, Batch} -> batch_events(Ref, [Batch | Batches]);
        Terminal -> {lists:reverse(Batches), terminal(Terminal)}
    end.

%% @doc All events as they come, of a stream that sends no batches.
-spec each_event(reference()) -> [py:event()].
each_event(Ref) ->
    {Values, Terminal} = all_events(Ref),
    [{data, Value} || Value <- Values] ++ [Terminal].

%% @doc The next `N' values.
-spec next_values(non_neg_integer(), reference()) -> [term()].
next_values(N, Ref) ->
    [
        begin
            {ok, Value} = py:stream_next(Ref, ?LIMIT_MS),
            Value
        end
     || _ <- lists:seq(1, N)
    ].

%% @doc The values that are left of a stream that ends in order.
-spec rest(reference()) -> [term()].
rest(Ref) ->
    case py:stream_next(Ref, ?LIMIT_MS) of
        {ok, Value} -> [Value | rest(Ref)];
        done -> []
    end.

%% @doc Takes `N' values, whatever they are.
-spec take(non_neg_integer(), reference()) -> ok.
take(N, Ref) ->
    _ = next_values(N, Ref),
    ok.

event(Ref) ->
    receive
        {py_stream, Ref, Event} -> Event
    after ?LIMIT_MS -> error({no_event, Ref})
    end.

terminal(done) -> done;
terminal({error, Reason}) -> {error, Reason}.

%% @doc A number that no other case has.
-spec label() -> pos_integer().
label() ->
    erlang:unique_integer([positive]).

-spec now_ms() -> integer().
now_ms() ->
    erlang:monotonic_time(millisecond).
