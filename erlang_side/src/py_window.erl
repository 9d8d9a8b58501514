%% @doc How much of a stream is out: yielded by Python and not yet taken by the
%% owner. Plain arithmetic on one record; the stream's process does what this
%% says.
%%
%% Python may be ahead of what the owner has taken by `size' values and `bytes'
%% encoded bytes. Nothing tells a process on the BEAM that another one has
%% taken a message, so the stream's process looks at the owner's mailbox: of
%% the messages that were sent, at most as many are still out as the mailbox
%% holds in all. That bound is safe whatever else the owner gets, and it only
%% ever comes down by looking. docs/streaming.md has the reasoning.
-module(py_window).

-export([
    new/3,
    demand/2,
    received/4,
    blocked/1,
    observed/2,
    out/1,
    sent/1,
    hungry/1,
    starved/1,
    grant/1,
    credit/1,
    waiting/1
]).
-export_type([window/0]).

-record(window, {
    size :: pos_integer(),
    bytes :: pos_integer(),
    %% Values that the owner has asked for in all, or -1 where it need not ask.
    demand = -1 :: integer(),
    %% Sums since the start: values and bytes that came from Python, and
    %% messages that were sent to the owner.
    values = 0 :: non_neg_integer(),
    total_bytes = 0 :: non_neg_integer(),
    messages = 0 :: non_neg_integer(),
    %% At most so many of the messages are still in the owner's mailbox.
    out = 0 :: non_neg_integer(),
    %% The sums at the end of each frame that is not known to be taken.
    frames = queue:new() :: queue:queue({non_neg_integer(), non_neg_integer(), non_neg_integer()}),
    %% What is known to be taken, and what Python was last told of it.
    taken = {0, 0} :: {non_neg_integer(), non_neg_integer()},
    %% Whether Python has said that what is left is too small for its next frame.
    blocked = false :: boolean(),
    told = {0, 0} :: {non_neg_integer(), non_neg_integer()}
}).
-opaque window() :: #window{}.

%% @doc A window of `Size' values and `Bytes' bytes. `Demand' is -1 for an owner
%% that is sent to without asking.
-spec new(pos_integer(), pos_integer(), integer()) -> window().
new(Size, Bytes, Demand) ->
    #window{size = Size, bytes = Bytes, demand = Demand}.

%% More than a stream can ever yield, and what fits a frame's field.
-define(MOST, 16#7fffffffffffffff).

%% @doc `N' more values are asked for.
-spec demand(pos_integer(), window()) -> window().
demand(_N, W = #window{demand = -1}) -> W;
demand(N, W = #window{demand = Demand}) -> W#window{demand = min(Demand + N, ?MOST)}.

%% @doc A frame came and was sent on as `Messages' messages.
-spec received(non_neg_integer(), non_neg_integer(), non_neg_integer(), window()) -> window().
received(Values, Bytes, Messages, W) ->
    #window{values = V, total_bytes = B, messages = M, out = Out, frames = Frames} = W,
    W#window{
        values = V + Values,
        total_bytes = B + Bytes,
        messages = M + Messages,
        out = Out + Messages,
        blocked = false,
        frames = queue:in({M + Messages, V + Values, B + Bytes}, Frames)
    }.

%% @doc Python has a frame that is larger than what is left of its window.
-spec blocked(window()) -> window().
blocked(W) -> W#window{blocked = true}.

%% @doc The owner's mailbox was seen to hold at most `Length' of our messages.
-spec observed(non_neg_integer(), window()) -> window().
observed(Length, W = #window{out = Out}) when Length >= Out -> W;
observed(Length, W = #window{messages = M, frames = Frames, taken = Taken}) ->
    {Rest, NewTaken} = drop(M - Length, Frames, Taken),
    W#window{out = Length, frames = Rest, taken = NewTaken}.

%% A frame counts as taken when its last message is.
drop(Messages, Frames, Taken) ->
    case queue:peek(Frames) of
        {value, {Last, V, B}} when Last =< Messages ->
            drop(Messages, queue:drop(Frames), {V, B});
        _ ->
            {Frames, Taken}
    end.

%% @doc Messages that may still be in the owner's mailbox.
-spec out(window()) -> non_neg_integer().
out(#window{out = Out}) -> Out.

%% @doc Messages that were sent to the owner in all.
-spec sent(window()) -> non_neg_integer().
sent(#window{messages = Messages}) -> Messages.

%% @doc Whether Python has used half of what it was told it may use: time to look.
-spec hungry(window()) -> boolean().
hungry(W = #window{size = Size, bytes = Bytes}) ->
    {Values, Room} = room(W),
    W#window.blocked orelse Values * 2 =< Size orelse Room * 2 =< Bytes.

%% @doc Whether Python has used, or may have used, all of it: it may be waiting.
-spec starved(window()) -> boolean().
starved(W = #window{bytes = Bytes}) ->
    {Values, Room} = room(W),
    W#window.blocked orelse Values =< 0 orelse Room * 2 =< Bytes.

room(#window{size = Size, bytes = Bytes, values = V, total_bytes = B, told = {TV, TB}}) ->
    {TV + Size - V, TB + Bytes - B}.

%% @doc Whether so much was taken since Python was last told that telling it is
%% worth a frame. A smaller fraction costs more frames; a larger one leaves
%% Python waiting for longer with a window that is nearly used up.
-spec grant(window()) -> {boolean(), window()}.
grant(W = #window{told = Told, taken = Told}) ->
    {false, W};
grant(W = #window{size = Size, bytes = Bytes, told = {TV, TB}, taken = {V, B}}) ->
    case
        W#window.blocked orelse (V - TV) * 4 >= Size orelse (B - TB) * 4 >= Bytes orelse
            W#window.out =:= 0
    of
        true -> {true, W#window{told = {V, B}}};
        false -> {false, W}
    end.

%% @doc What to tell Python: values and bytes taken, and values asked for.
-spec credit(window()) -> {non_neg_integer(), non_neg_integer(), integer()}.
credit(#window{told = {V, B}, demand = Demand}) ->
    {V, B, Demand}.

%% @doc Whether Python may send: a stream whose window is used up, or whose
%% owner has not asked, is not late.
-spec waiting(window()) -> boolean().
waiting(W = #window{demand = Demand, values = V, told = {Told, _}}) ->
    {Values, Room} = room(W),
    %% One value may pass when nothing is out, whatever its size.
    HasRoom = V =:= Told orelse (Values > 0 andalso Room > 0 andalso not W#window.blocked),
    HasRoom andalso (Demand =:= -1 orelse Demand > V).
