%% @doc How much of a stream is in flight: yielded by Python and not yet taken by the
%% owner. Plain arithmetic on one record; the stream's process does what this
%% says.
%%
%% Python may be ahead of what the owner has taken by `size' values and `bytes'
%% encoded bytes. Nothing announces on the BEAM that a process has taken a
%% message, so the stream's process polls the owner's mailbox: of the messages
%% that were sent, at most as many are still in flight as the mailbox holds in
%% all. That bound is safe whatever else the owner gets, and only polling brings
%% it down. docs/streaming.md has the reasoning.
%% @hidden
-module(py_window).

-export([
    new/3,
    accepted/3,
    initial/1,
    limit_seen/2,
    is_demanded/1,
    demand/2,
    received/4,
    blocked/1,
    observed/2,
    in_flight/1,
    sent/1,
    should_poll/1,
    exhausted/1,
    grant/1,
    credit/1,
    waiting/1
]).
-export_type([window/0]).

-record(window, {
    size :: pos_integer(),
    %% The size that Python knows, and the most that it may become. If it has grown, credit
    %% says more than was taken by the difference.
    base :: pos_integer(),
    most :: pos_integer(),
    %% Whether Python had used all of the window, as far as it could know it, when it sent the
    %% last frame.
    is_limited = false :: boolean(),
    bytes :: pos_integer(),
    %% Values that the owner has asked for in all, or -1 if it need not ask.
    demand = -1 :: integer(),
    %% Sums since the start: values and bytes that came from Python, and
    %% messages that were sent to the owner.
    values = 0 :: non_neg_integer(),
    total_bytes = 0 :: non_neg_integer(),
    messages = 0 :: non_neg_integer(),
    %% At most this many of the messages are still in the owner's mailbox.
    in_flight = 0 :: non_neg_integer(),
    %% The sums at the end of each frame that is not known to be taken.
    frames = queue:new() :: queue:queue({non_neg_integer(), non_neg_integer(), non_neg_integer()}),
    %% Values and bytes that are known to be taken, and what the last credit frame said.
    taken = {0, 0} :: {non_neg_integer(), non_neg_integer()},
    advertised = {0, 0} :: {non_neg_integer(), non_neg_integer()},
    %% Whether Python has said that what is left is too small for its next frame.
    blocked = false :: boolean()
}).
-opaque window() :: #window{}.

%% How often a window of `auto' may double: it is then 64 times as large. A larger number
%% lets an owner that falls asleep have more in its mailbox, a smaller one leaves a long way empty.
-define(MOST_TIMES, 64).
-define(AUTO, 1024).

%% @doc A window of `Size' values and `Bytes' bytes. `Demand' is -1 for an owner
%% that is sent values without asking.
-spec new(pos_integer() | auto, pos_integer(), integer()) -> window().
new(Size, Bytes, Demand) ->
    Base = initial(Size),
    #window{size = Base, base = Base, most = Base, bytes = Bytes, demand = Demand}.

%% @doc The other node has said what its pool's window is. Nothing was sent yet. `auto' grows
%% by itself.
-spec accepted(pos_integer() | auto, pos_integer(), window()) -> window().
accepted(Size, Bytes, W) ->
    Base = initial(Size),
    Most =
        case Size of
            auto -> ?MOST_TIMES * Base;
            _ -> Base
        end,
    W#window{size = Base, base = Base, most = Most, bytes = Bytes}.

%% @doc The size that Python is sent. On one node there is no way that `auto' had to fill.
-spec initial(pos_integer() | auto) -> pos_integer().
initial(auto) -> ?AUTO;
initial(Size) -> Size.

%% @doc When the last frame was sent, the last credit that had arrived there said `Seen' values.
-spec limit_seen(non_neg_integer(), window()) -> window().
limit_seen(_Seen, W = #window{size = Most, most = Most}) -> W;
limit_seen(Seen, W = #window{values = V, base = Base}) -> W#window{is_limited = V >= Seen + Base}.

%% More than a stream can ever yield, and what fits a frame's field.
-define(MOST, 16#7fffffffffffffff).

%% @doc `N' more values are asked for.
-spec demand(pos_integer(), window()) -> window().
demand(_N, W = #window{demand = -1}) -> W;
demand(N, W = #window{demand = Demand}) -> W#window{demand = min(Demand + N, ?MOST)}.

%% @doc Whether the owner has to ask for values.
-spec is_demanded(window()) -> boolean().
is_demanded(#window{demand = Demand}) -> Demand =/= -1.

%% @doc A frame came and was sent on as `Messages' messages.
-spec received(non_neg_integer(), non_neg_integer(), non_neg_integer(), window()) -> window().
received(Values, Bytes, Messages, W) ->
    #window{values = V, total_bytes = B, messages = M, in_flight = InFlight, frames = Frames} = W,
    W#window{
        values = V + Values,
        total_bytes = B + Bytes,
        messages = M + Messages,
        in_flight = InFlight + Messages,
        blocked = false,
        frames = queue:in({M + Messages, V + Values, B + Bytes}, Frames)
    }.

%% @doc Python has a frame that is larger than what is left of its window.
-spec blocked(window()) -> window().
blocked(W) -> W#window{blocked = true}.

%% @doc The owner's mailbox was seen to hold at most `Length' of our messages.
-spec observed(non_neg_integer(), window()) -> window().
observed(Length, W = #window{in_flight = InFlight}) when Length >= InFlight -> W;
observed(Length, W = #window{messages = M, frames = Frames, taken = Taken}) ->
    {Rest, NewTaken} = drop(M - Length, Frames, Taken),
    W#window{in_flight = Length, frames = Rest, taken = NewTaken}.

%% A frame counts as taken when its last message is.
drop(Messages, Frames, Taken) ->
    case queue:peek(Frames) of
        {value, {Last, V, B}} when Last =< Messages ->
            drop(Messages, queue:drop(Frames), {V, B});
        _ ->
            {Frames, Taken}
    end.

%% @doc Messages that may still be in the owner's mailbox.
-spec in_flight(window()) -> non_neg_integer().
in_flight(#window{in_flight = InFlight}) -> InFlight.

%% @doc Messages that were sent to the owner in all.
-spec sent(window()) -> non_neg_integer().
sent(#window{messages = Messages}) -> Messages.

%% @doc Whether Python has used half of what it may use: time to poll the owner.
-spec should_poll(window()) -> boolean().
should_poll(W = #window{size = Size, bytes = Bytes}) ->
    {Values, Available} = available(W),
    W#window.blocked orelse W#window.is_limited orelse Values * 2 =< Size orelse Available * 2 =< Bytes.

%% @doc Whether Python has used, or may have used, all of it: it may be waiting.
-spec exhausted(window()) -> boolean().
exhausted(W = #window{bytes = Bytes}) ->
    {Values, Available} = available(W),
    W#window.blocked orelse W#window.is_limited orelse Values =< 0 orelse Available * 2 =< Bytes.

%% Values and bytes that Python may still send.
available(#window{size = Size, bytes = Bytes, values = V, total_bytes = B, advertised = {AV, AB}}) ->
    {AV + Size - V, AB + Bytes - B}.

%% @doc Whether enough was taken since the last credit frame for another one. A
%% smaller fraction costs more frames; a larger one leaves Python waiting for longer
%% with a window that is nearly used up.
-spec grant(window()) -> {boolean(), window()}.
grant(W = #window{is_limited = true, values = V, taken = {Taken, _}, size = Size}) when (V - Taken) * 2 =< Size ->
    %% Python waits, and not for the owner, which has taken most of what came: for the way there
    %% and back, which a larger window fills.
    Larger = min(2 * Size, W#window.most),
    {true, W#window{size = Larger, is_limited = false, advertised = W#window.taken}};
grant(W = #window{advertised = Same, taken = Same}) ->
    {false, W};
grant(W = #window{size = Size, bytes = Bytes, advertised = {AV, AB}, taken = {V, B}}) ->
    case
        W#window.blocked orelse (V - AV) * 4 >= Size orelse (B - AB) * 4 >= Bytes orelse
            W#window.in_flight =:= 0
    of
        true -> {true, W#window{advertised = {V, B}}};
        false -> {false, W}
    end.

%% @doc What a credit frame says: values and bytes taken, and values asked for.
-spec credit(window()) -> {non_neg_integer(), non_neg_integer(), integer()}.
credit(#window{advertised = {V, B}, size = Size, base = Base, demand = Demand}) ->
    {V + Size - Base, B, Demand}.

%% @doc Whether Python may send. The timeout clock runs only then: it stands while
%% the window is exhausted or no demand is left.
-spec waiting(window()) -> boolean().
waiting(W = #window{demand = Demand, values = V, advertised = {Advertised, _}}) ->
    {Values, Bytes} = available(W),
    %% One value may pass when nothing is in flight, whatever its size.
    MaySend = V =:= Advertised orelse (Values > 0 andalso Bytes > 0 andalso not W#window.blocked),
    MaySend andalso (Demand =:= -1 orelse Demand > V).
