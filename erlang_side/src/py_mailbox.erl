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
%% progress the next one waits 50 times as long as that count took. An owner on another node is asked through erpc, without
%% waiting.
%% @hidden
-module(py_mailbox).

-export([new/2, poll/4, answer/3, is_asking/1]).
-export_type([mailbox/0]).

%% A count without progress is not repeated before this many times the time it took: at
%% most a fiftieth of a core goes into such counts.
-define(REST, 50).
%% Polls of the length alone before a count that does not promise anything: more than
%% an owner at full speed needs to take its mail.
-define(POLLS_BEFORE_COUNT, 104).
%% The words that a count may copy before it is given up.
-define(MAX_WORDS, 32 * 1024 * 1024).

-record(asked, {
    request :: erpc:request_id(),
    %% How many messages had been sent in all, and how many might be in the
    %% mailbox, when the request was made; and when that was.
    sent :: non_neg_integer(),
    in_flight :: non_neg_integer(),
    at :: integer()
}).
-record(mailbox, {
    owner :: pid(),
    ref :: reference(),
    is_local :: boolean(),
    %% The owner's reductions when its mail was last counted.
    reductions = -1 :: integer(),
    %% When the next count is allowed, in native time units.
    not_before = 0 :: integer() | undefined,
    %% How much other mail there was when it was last counted.
    other = 0 :: non_neg_integer(),
    %% Whether the length that another node reported makes a count worth while.
    is_worth_counting = false :: boolean(),
    %% The request that another node has yet to answer.
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
poll(M = #mailbox{is_local = true, owner = Owner}, Polls, InFlight, _Sent) ->
    case process_info(Owner, message_queue_len) of
        {message_queue_len, Length} ->
            case is_worth_counting(Length, InFlight, M) of
                true -> count(M, Length, InFlight);
                false when Length < InFlight; Polls < ?POLLS_BEFORE_COUNT -> {Length, M};
                false -> count_if_it_ran(M, Length, InFlight)
            end;
        undefined ->
            {0, M}
    end;
poll(M = #mailbox{asked = undefined}, Polls, InFlight, Sent) ->
    Now = erlang:monotonic_time(),
    IsEarly = Polls < ?POLLS_BEFORE_COUNT orelse too_early(M, Now),
    Request = ask(M, IsEarly andalso not M#mailbox.is_worth_counting),
    {InFlight, M#mailbox{asked = #asked{request = Request, sent = Sent, in_flight = InFlight, at = Now}}};
poll(M, _Polls, InFlight, _Sent) ->
    {InFlight, M}.

%% Whether other mail, if it is what it was, leaves room for no more than half
%% of the events.
is_worth_counting(Length, InFlight, #mailbox{other = Other}) ->
    Length >= InFlight andalso (Length - Other) * 2 =< InFlight.

count_if_it_ran(M = #mailbox{owner = Owner}, Length, InFlight) ->
    case process_info(Owner, reductions) of
        {reductions, Reductions} when Reductions =/= M#mailbox.reductions ->
            case too_early(M, erlang:monotonic_time()) of
                true -> {Length, M};
                false -> count(M#mailbox{reductions = Reductions}, Length, InFlight)
            end;
        _ ->
            {Length, M}
    end.

count(M = #mailbox{owner = Owner, ref = Ref}, Length, InFlight) ->
    Before = erlang:monotonic_time(),
    {All, Count} = count_events(Owner, Ref, Length),
    Now = erlang:monotonic_time(),
    {Count, M#mailbox{
        not_before = not_before(Count, InFlight, Now, Now - Before),
        other = All - Count
    }}.

not_before(Count, InFlight, _Now, _Took) when Count < InFlight -> undefined;
not_before(_Count, _InFlight, Now, Took) -> Now + ?REST * Took.

too_early(#mailbox{not_before = undefined}, _Now) -> false;
too_early(#mailbox{not_before = NotBefore}, Now) -> Now < NotBefore.

%% The copy of the mailbox is made in a process of its own, whose memory goes
%% with it.
count_events(Owner, Ref, Length) ->
    Caller = self(),
    Count = fun() ->
        {messages, Messages} = process_info(Owner, messages),
        Events = length([x || {py_stream, R, _} <- Messages, R =:= Ref]),
        Caller ! {self(), {length(Messages), Events}}
    end,
    Limit = #{size => ?MAX_WORDS, kill => true, error_logger => false},
    {Pid, Monitor} = spawn_opt(Count, [monitor, {max_heap_size, Limit}]),
    receive
        {Pid, Counts} ->
            erlang:demonitor(Monitor, [flush]),
            Counts;
        %% The owner has ended, or has more mail than may be copied.
        {'DOWN', Monitor, process, Pid, _} ->
            {Length, Length}
    end.

%% On another node the count runs there, as an expression: nothing of this
%% application need be loaded.
ask(#mailbox{owner = Owner}, _IsLengthEnough = true) ->
    erpc:send_request(node(Owner), erlang, process_info, [Owner, message_queue_len]);
ask(#mailbox{owner = Owner, ref = Ref}, false) ->
    Bindings = #{'Owner' => Owner, 'Ref' => Ref},
    erpc:send_request(node(Owner), erl_eval, exprs, [count_expression(), Bindings]).

count_expression() ->
    {ok, Tokens, _} = erl_scan:string(
        "case process_info(Owner, messages) of"
        "  {messages, Ms} -> {length(Ms), length([x || {py_stream, R, _} <- Ms, R =:= Ref])};"
        "  undefined -> {0, 0} "
        "end."
    ),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    Expressions.

%% @doc Whether another node has yet to answer; a poll would bring nothing.
-spec is_asking(mailbox()) -> boolean().
is_asking(#mailbox{asked = Asked}) ->
    Asked =/= undefined.

%% @doc Whether a message is the answer of another node, and what it says. Of the
%% `Sent' messages those that were sent after the request may be in the mailbox as well.
-spec answer(term(), mailbox(), non_neg_integer()) ->
    {non_neg_integer(), mailbox()} | unrelated.
answer(_Message, #mailbox{asked = undefined}, _Sent) ->
    unrelated;
answer(Message, M = #mailbox{asked = Asked = #asked{request = Request, sent = Before}}, Sent) ->
    try erpc:check_response(Message, Request) of
        {response, {message_queue_len, Length}} ->
            IsWorth = is_worth_counting(Length, Asked#asked.in_flight, M),
            {Length + Sent - Before, M#mailbox{asked = undefined, is_worth_counting = IsWorth}};
        {response, {value, {Length, Count}, _}} ->
            {Count + Sent - Before, counted(Length, Count, Asked, M)};
        {response, undefined} ->
            {0, M#mailbox{asked = undefined}};
        no_response ->
            unrelated
    catch
        %% A node that is gone brings the `DOWN' message of the owner's monitor.
        _:_ -> {16#ffffffff, M#mailbox{asked = undefined}}
    end.

counted(Length, Count, #asked{in_flight = InFlight, at = At}, M) ->
    Now = erlang:monotonic_time(),
    M#mailbox{
        asked = undefined,
        not_before = not_before(Count, InFlight, Now, Now - At),
        other = Length - Count,
        is_worth_counting = false
    }.
