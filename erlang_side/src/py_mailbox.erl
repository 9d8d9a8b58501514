%% @doc How many messages of a stream its owner's mailbox may still hold.
%%
%% The length of the mailbox is a bound that costs next to nothing, and a tight
%% one where the stream's events are most of the mail. Where the owner keeps
%% other mail back, as in a selective receive, the length does not come down
%% although events are taken; then the events in the mailbox are counted, which
%% is exact and takes time in proportion to the mailbox. It is done only when
%% the owner has run since it was last done, and the less often the less it
%% yields. An owner on another node is asked through erpc, without waiting.
-module(py_mailbox).

-export([new/2, look/3, answer/2, is_asking/1]).
-export_type([mailbox/0]).

%% A count that found nothing taken is not repeated before so many times the
%% time it took: at most a fiftieth of a core goes into counting in vain.
-define(REST, 50).
%% Looks at the bare length before a count, which copies the mailbox: many for
%% an owner that may only be slow, few for one that is known to keep other mail.
-define(LOOKS_BEFORE_COUNT, 104).
-define(LOOKS_WITH_OTHER_MAIL, 4).
%% The words that a count may copy before it is given up.
-define(MAX_WORDS, 32 * 1024 * 1024).

-record(mailbox, {
    owner :: pid(),
    ref :: reference(),
    is_local :: boolean(),
    %% The owner's reductions when its mail was last counted.
    reductions = -1 :: integer(),
    %% When the next count is allowed, in native time units.
    not_before = 0 :: integer() | undefined,
    %% Looks in vain before a count.
    patience = ?LOOKS_BEFORE_COUNT :: pos_integer(),
    asked :: undefined | term()
}).
-opaque mailbox() :: #mailbox{}.

%% @doc The mailbox of `Owner', of which the events of `Ref' are looked for.
-spec new(pid(), reference()) -> mailbox().
new(Owner, Ref) ->
    #mailbox{owner = Owner, ref = Ref, is_local = node(Owner) =:= node(), not_before = undefined}.

%% @doc At most so many events are in the mailbox. `Looks' says how often it was
%% looked at in vain, `Out' what is known so far.
-spec look(mailbox(), non_neg_integer(), non_neg_integer()) -> {non_neg_integer(), mailbox()}.
look(M = #mailbox{is_local = true, owner = Owner, patience = Patience}, Looks, Out) ->
    case process_info(Owner, message_queue_len) of
        {message_queue_len, Length} when Length < Out; Looks < Patience ->
            {Length, M};
        {message_queue_len, Length} ->
            count(M, Length, Out);
        undefined ->
            {0, M}
    end;
look(M = #mailbox{asked = undefined}, Looks, Out) ->
    {Out, ask(M, Looks)};
look(M, _Looks, Out) ->
    {Out, M}.

count(M = #mailbox{owner = Owner, ref = Ref}, Length, Out) ->
    Now = erlang:monotonic_time(),
    {reductions, Reductions} =
        case process_info(Owner, reductions) of
            undefined -> {reductions, 0};
            Info -> Info
        end,
    case Reductions =:= M#mailbox.reductions orelse too_early(M, Now) of
        true ->
            {Length, M};
        false ->
            Count = count_events(Owner, Ref, Length),
            Took = erlang:monotonic_time() - Now,
            NotBefore =
                case Count < Out of
                    true -> undefined;
                    false -> Now + ?REST * Took
                end,
            {Count, M#mailbox{
                reductions = Reductions,
                not_before = NotBefore,
                patience = patience(Length, Count)
            }}
    end.

patience(Length, Count) when Length > Count -> ?LOOKS_WITH_OTHER_MAIL;
patience(_Length, _Count) -> ?LOOKS_BEFORE_COUNT.

too_early(#mailbox{not_before = undefined}, _Now) -> false;
too_early(#mailbox{not_before = NotBefore}, Now) -> Now < NotBefore.

%% The copy of the mailbox is made in a process of its own, whose memory goes
%% with it.
count_events(Owner, Ref, Length) ->
    Caller = self(),
    Count = fun() ->
        {messages, Messages} = process_info(Owner, messages),
        Caller ! {self(), length([x || {py_stream, R, _} <- Messages, R =:= Ref])}
    end,
    Limit = #{size => ?MAX_WORDS, kill => true, error_logger => false},
    {Pid, Monitor} = spawn_opt(Count, [monitor, {max_heap_size, Limit}]),
    receive
        {Pid, N} ->
            erlang:demonitor(Monitor, [flush]),
            N;
        {'DOWN', Monitor, process, Pid, _} ->
            Length
    end.

%% On another node the count runs there, as an expression: nothing of this
%% application need be loaded.
ask(M = #mailbox{owner = Owner}, Looks) when Looks < ?LOOKS_BEFORE_COUNT ->
    M#mailbox{asked = erpc:send_request(node(Owner), erlang, process_info, [Owner, message_queue_len])};
ask(M = #mailbox{owner = Owner, ref = Ref}, _Looks) ->
    Bindings = #{'Owner' => Owner, 'Ref' => Ref},
    M#mailbox{asked = erpc:send_request(node(Owner), erl_eval, exprs, [count_expression(), Bindings])}.

count_expression() ->
    {ok, Tokens, _} = erl_scan:string(
        "case process_info(Owner, messages) of"
        "  {messages, Ms} -> length([x || {py_stream, R, _} <- Ms, R =:= Ref]);"
        "  undefined -> 0 "
        "end."
    ),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    Expressions.

%% @doc Whether another node has yet to answer; a look would bring nothing.
-spec is_asking(mailbox()) -> boolean().
is_asking(#mailbox{asked = Asked}) ->
    Asked =/= undefined.

%% @doc Whether a message is the answer to a question that was put to another
%% node, and what it says.
-spec answer(term(), mailbox()) -> {non_neg_integer(), mailbox()} | unrelated.
answer(_Message, #mailbox{asked = undefined}) ->
    unrelated;
answer(Message, M = #mailbox{asked = Asked}) ->
    try erpc:check_response(Message, Asked) of
        {response, {message_queue_len, Length}} -> {Length, M#mailbox{asked = undefined}};
        {response, {value, Count, _}} -> {Count, M#mailbox{asked = undefined}};
        {response, undefined} -> {0, M#mailbox{asked = undefined}};
        no_response -> unrelated
    catch
        %% The owner's monitor tells of a node that is gone.
        _:_ -> {16#ffffffff, M#mailbox{asked = undefined}}
    end.
