%% @doc How many messages of a stream its owner's mailbox may still hold.
%%
%% The length of the mailbox is a bound that costs next to nothing, and a tight
%% one if the stream's events are most of the mail. If the owner keeps
%% other mail back, as in a selective receive, the length does not come down
%% although events are taken; then the events in the mailbox are counted, which
%% is exact and takes time in proportion to the mailbox.
%%
%% A count also tells how much other mail there is. As long as that stays as it
%% is, the length says when the next count is worth while: when half of the
%% events seem to be taken. If other mail comes and goes that is only a
%% guess, and costs no more than a count. Otherwise the events are counted when 104
%% polls have found no progress and the owner has run since; after a count without
%% progress the next one waits 50 times as long as that count took. The counts are made by
%% py_mail_counter, and an owner on another node is asked for its length through erpc; nobody waits here.
%% @hidden
-module(py_mailbox).

-export([new/2, poll/4, answer/3, asleep/1, is_asking/1]).
-export_type([mailbox/0]).

%% A count without progress is not repeated before this many times the time it took: at
%% most a fiftieth of a core goes into such counts.
-define(REST, 50).
%% Polls of the length alone before a count that does not promise anything: more than
%% an owner at full speed needs to take its mail.
-define(POLLS_BEFORE_COUNT, 104).

%% More than any number of events.
-define(UNKNOWN, 16#ffffffff).

-record(asked, {
    %% For the length of the mailbox on another node, or for a count.
    request :: {length, erpc:request_id()} | {count, py_mail_counter:request()},
    %% How many messages had been sent in all, and how many might be in the
    %% mailbox, when the request was made.
    sent :: non_neg_integer(),
    in_flight :: non_neg_integer()
}).
-record(mailbox, {
    owner :: pid(),
    ref :: reference(),
    is_local :: boolean(),
    %% The owner's reductions when its mail was last counted.
    reductions = -1 :: integer(),
    %% The length of its mailbox and its reductions when they last changed, and when that was.
    seen :: undefined | {non_neg_integer(), integer()},
    asleep_since = 0 :: integer(),
    %% How many events were sent, and since when there is no other, in native time units.
    sent = -1 :: integer(),
    sent_since :: undefined | integer(),
    %% The last of these when its mail was counted.
    asleep_at_count = 0 :: integer(),
    %% When the next count is allowed, in native time units.
    not_before = 0 :: integer() | undefined,
    %% How much other mail there was when it was last counted.
    other = 0 :: non_neg_integer(),
    %% Whether the length that another node reported makes a count worth while.
    is_worth_counting = false :: boolean(),
    %% The question that has yet to be answered.
    asked :: undefined | #asked{}
}).
-opaque mailbox() :: #mailbox{}.

%% @doc The mailbox of `Owner', in which the events of `Ref' are counted.
-spec new(pid(), reference()) -> mailbox().
new(Owner, Ref) ->
    #mailbox{owner = Owner, ref = Ref, is_local = node(Owner) =:= node(), not_before = undefined}.

%% @doc The most events that are in the mailbox. `Polls' is the number of polls without
%% progress, `InFlight' the bound so far, `Sent' how many were sent in all.
-spec poll(mailbox(), non_neg_integer(), non_neg_integer(), non_neg_integer()) ->
    {non_neg_integer(), mailbox()}.
poll(M = #mailbox{is_local = true, owner = Owner}, Polls, InFlight, Sent) when Polls < ?POLLS_BEFORE_COUNT ->
    case process_info(Owner, message_queue_len) of
        {message_queue_len, Length} -> {Length, early(Length, InFlight, Sent, M)};
        undefined -> {0, M}
    end;
poll(M = #mailbox{is_local = true, owner = Owner}, _Polls, InFlight, Sent) ->
    case process_info(Owner, [message_queue_len, reductions]) of
        [{message_queue_len, Length}, {reductions, Reductions}] ->
            {Length, late(Length, Reductions, InFlight, Sent, M)};
        undefined ->
            {0, M}
    end;
poll(M = #mailbox{asked = undefined, owner = Owner}, Polls, InFlight, Sent) ->
    IsEarly = Polls < ?POLLS_BEFORE_COUNT orelse too_early(M, erlang:monotonic_time()),
    case IsEarly andalso not M#mailbox.is_worth_counting of
        true ->
            Items = [message_queue_len, reductions],
            Request = erpc:send_request(node(Owner), erlang, process_info, [Owner, Items]),
            {InFlight, asked({length, Request}, InFlight, Sent, M)};
        false ->
            {InFlight, count(InFlight, Sent, M)}
    end;
poll(M, _Polls, InFlight, _Sent) ->
    {InFlight, M}.

early(Length, InFlight, Sent, M = #mailbox{asked = Asked}) ->
    case Asked =:= undefined andalso is_worth_counting(Length, InFlight, M) of
        true -> count(InFlight, Sent, M);
        false -> M
    end.

late(Length, Reductions, InFlight, Sent, M0) ->
    M = sent(Sent, seen({Length, Reductions}, M0)),
    HasRun = Length >= InFlight andalso Reductions =/= M#mailbox.reductions,
    case
        M#mailbox.asked =:= undefined andalso
            (is_worth_counting(Length, InFlight, M) orelse
                (HasRun andalso not too_early(M, erlang:monotonic_time())))
    of
        true -> count(InFlight, Sent, M);
        false -> M
    end.

%% An owner that takes nothing, and gets nothing, is asleep.
seen(Seen, M = #mailbox{seen = Seen}) -> M;
seen(Seen, M) -> M#mailbox{seen = Seen, asleep_since = erlang:monotonic_time(millisecond)}.

asleep_since(#mailbox{seen = undefined}) -> erlang:monotonic_time(millisecond);
asleep_since(#mailbox{asleep_since = Since}) -> Since.

%% It has not run since the last count of this stream, although the counts of others used
%% reductions of its.
still_asleep(Reductions, M = #mailbox{seen = Seen, asleep_at_count = Since}) ->
    Length =
        case Seen of
            {L, _} -> L;
            undefined -> 0
        end,
    M#mailbox{seen = {Length, Reductions}, reductions = Reductions, asleep_since = Since}.

sent(Sent, M = #mailbox{sent = Sent}) -> M;
sent(Sent, M) -> M#mailbox{sent = Sent, sent_since = erlang:monotonic_time()}.

%% @doc For how long the owner is known to be asleep, in ms.
-spec asleep(mailbox()) -> non_neg_integer().
asleep(#mailbox{seen = undefined}) -> 0;
asleep(#mailbox{asleep_since = Since}) -> erlang:monotonic_time(millisecond) - Since.

%% Whether other mail, if it is what it was, leaves room for no more than half
%% of the events.
is_worth_counting(Length, InFlight, #mailbox{other = Other}) ->
    Length >= InFlight andalso (Length - Other) * 2 =< InFlight.

count(InFlight, Sent, M = #mailbox{owner = Owner, ref = Ref, reductions = Reductions, sent_since = Since}) ->
    Quiet =
        case M#mailbox.sent of
            Sent -> Since;
            _ -> undefined
        end,
    asked({count, py_mail_counter:ask(Owner, Ref, Reductions, Quiet)}, InFlight, Sent, M).

asked(Request, InFlight, Sent, M) ->
    M#mailbox{asked = #asked{request = Request, sent = Sent, in_flight = InFlight}}.

too_early(#mailbox{not_before = undefined}, _Now) -> false;
too_early(#mailbox{not_before = NotBefore}, Now) -> Now < NotBefore.

%% @doc Whether an answer is yet to come; a poll would bring nothing.
-spec is_asking(mailbox()) -> boolean().
is_asking(#mailbox{asked = Asked}) ->
    Asked =/= undefined.

%% @doc Whether a message is the answer, and what it says. Of the
%% `Sent' messages those that were sent after the request may be in the mailbox as well.
-spec answer(term(), mailbox(), non_neg_integer()) ->
    {non_neg_integer(), mailbox()} | unrelated.
answer(_Message, #mailbox{asked = undefined}, _Sent) ->
    unrelated;
answer(Message, M = #mailbox{asked = Asked = #asked{request = {count, Request}, sent = Before}}, Sent) ->
    case py_mail_counter:check(Message, Request) of
        {Length, Events, Reductions, Took} ->
            {Events + Sent - Before, counted(Length, Events, Reductions, Took, Asked, M)};
        {unchanged, Known} ->
            {?UNKNOWN, still_asleep(Known, M#mailbox{asked = undefined, is_worth_counting = false})};
        {unknown, Took} ->
            NotBefore = erlang:monotonic_time() + ?REST * Took,
            {?UNKNOWN, M#mailbox{asked = undefined, not_before = NotBefore, is_worth_counting = false, other = 0}};
        no_answer ->
            unrelated
    end;
answer(Message, M = #mailbox{asked = Asked = #asked{request = {length, Request}, sent = Before}}, Sent) ->
    try erpc:check_response(Message, Request) of
        {response, [{message_queue_len, Length}, {reductions, Reductions}]} ->
            IsWorth = is_worth_counting(Length, Asked#asked.in_flight, M),
            Seen = seen({Length, Reductions}, M),
            {Length + Sent - Before, Seen#mailbox{asked = undefined, is_worth_counting = IsWorth}};
        {response, undefined} ->
            {0, M#mailbox{asked = undefined}};
        no_response ->
            unrelated
    catch
        %% A node that is gone brings the `DOWN' message of the owner's monitor.
        _:_ -> {?UNKNOWN, M#mailbox{asked = undefined}}
    end.

%% The rest is of what the count took, and not of the time that it waited for others. After one
%% that brought something the next may follow at once.
counted(Length, Events, Reductions, Took, #asked{in_flight = InFlight}, M) ->
    NotBefore =
        case Events < InFlight of
            true -> undefined;
            false -> erlang:monotonic_time() + ?REST * Took
        end,
    Counted = M#mailbox{
        asked = undefined,
        reductions = -1,
        not_before = NotBefore,
        other = Length - Events,
        is_worth_counting = false
    },
    case Reductions of
        unknown -> Counted;
        _ -> still_asleep(Reductions, Counted#mailbox{asleep_at_count = asleep_since(M)})
    end.
