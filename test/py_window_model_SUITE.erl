%% @doc The arithmetic of py_window, against an owner whose mailbox is a list.
%%
%% Frames come as Python may send them, the owner takes messages, other mail comes and
%% goes, and the mailbox is polled, all at random. The seed is fixed and logged;
%% PY_FUZZ says how many runs there are.
-module(py_window_model_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([
    half_a_window_is_time_to_poll/1,
    credit_is_what_was_taken/1,
    a_demand_is_a_sum/1,
    the_timeout_clock/1,
    any_sequence/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 2}}].

-spec all() -> [atom()].
all() ->
    [
        half_a_window_is_time_to_poll,
        credit_is_what_was_taken,
        a_demand_is_a_sum,
        the_timeout_clock,
        any_sequence
    ].

%% The owner is polled when half of the window is used, be it in values, in bytes, or
%% because Python has said that the rest is too small.
-spec half_a_window_is_time_to_poll(ct_suite:ct_config()) -> ok.
half_a_window_is_time_to_poll(_Config) ->
    New = py_window:new(10, 1000, -1),
    ?assertNot(py_window:should_poll(New)),
    ?assertNot(py_window:should_poll(py_window:received(4, 40, 4, New))),
    Half = py_window:received(5, 40, 5, New),
    ?assert(py_window:should_poll(Half)),
    ?assertNot(py_window:exhausted(Half)),
    ?assert(py_window:exhausted(py_window:received(5, 40, 5, Half))),
    ?assert(py_window:exhausted(py_window:received(1, 500, 1, New))),
    Little = py_window:received(1, 300, 1, New),
    ?assertNot(py_window:should_poll(Little)),
    Blocked = py_window:blocked(Little),
    ?assert(py_window:should_poll(Blocked)),
    ?assert(py_window:exhausted(Blocked)),
    %% What came next had room.
    ?assertNot(py_window:should_poll(py_window:received(1, 10, 1, Blocked))).

%% Credit names sums of whole frames, when a quarter or all of the window was taken, or any
%% of it if Python waits.
-spec credit_is_what_was_taken(ct_suite:ct_config()) -> ok.
credit_is_what_was_taken(_Config) ->
    W0 = py_window:new(8, 1000, -1),
    W1 = py_window:received(3, 30, 3, py_window:received(1, 10, 1, W0)),
    ?assertMatch({false, _}, py_window:grant(W1)),
    %% The first frame, and a part of the second.
    W2 = py_window:observed(2, W1),
    ?assertMatch({false, _}, py_window:grant(W2)),
    {true, Credited} = py_window:grant(py_window:blocked(W2)),
    ?assertEqual({1, 10, -1}, py_window:credit(Credited)),
    {true, All} = py_window:grant(py_window:observed(0, W2)),
    ?assertEqual({4, 40, -1}, py_window:credit(All)),
    ?assertMatch({false, _}, py_window:grant(All)),
    %% A mailbox that grows by other mail takes nothing back.
    ?assertEqual(0, py_window:in_flight(py_window:observed(100, All))),
    %% A batch is one message.
    Batch = py_window:received(6, 60, 1, W0),
    ?assertEqual(1, py_window:in_flight(Batch)),
    {true, Taken} = py_window:grant(py_window:observed(0, Batch)),
    ?assertEqual({6, 60, -1}, py_window:credit(Taken)).

%% What is asked for adds up, and never past what a frame can hold.
-spec a_demand_is_a_sum(ct_suite:ct_config()) -> ok.
a_demand_is_a_sum(_Config) ->
    Demand = fun(W) -> element(3, py_window:credit(W)) end,
    ?assertEqual(7, Demand(py_window:demand(4, py_window:demand(3, py_window:new(1, 1, 0))))),
    ?assertEqual(-1, Demand(py_window:demand(4, py_window:new(1, 1, -1)))),
    Most = 16#7fffffffffffffff,
    ?assertEqual(Most, Demand(py_window:demand(1 bsl 70, py_window:new(1, 1, 5)))),
    ?assertEqual(Most, Demand(py_window:demand(1, py_window:new(1, 1, Most)))).

%% The timeout clock runs only while Python may send.
-spec the_timeout_clock(ct_suite:ct_config()) -> ok.
the_timeout_clock(_Config) ->
    New = py_window:new(2, 100, -1),
    ?assert(py_window:waiting(New)),
    One = py_window:received(1, 10, 1, New),
    ?assert(py_window:waiting(One)),
    ?assertNot(py_window:waiting(py_window:blocked(One))),
    ?assertNot(py_window:waiting(py_window:received(1, 10, 1, One))),
    ?assertNot(py_window:waiting(py_window:received(1, 100, 1, New))),
    %% After credit for all that was sent, Python may send a value of any size.
    {true, Credited} = py_window:grant(py_window:observed(0, py_window:blocked(One))),
    ?assert(py_window:waiting(Credited)),
    ?assertNot(py_window:waiting(py_window:new(2, 100, 0))),
    Asked = py_window:new(2, 100, 1),
    ?assert(py_window:waiting(Asked)),
    ?assertNot(py_window:waiting(py_window:received(1, 10, 1, Asked))).

%%% The model.

-record(model, {
    window :: py_window:window(),
    size :: pos_integer(),
    bytes :: pos_integer(),
    %% The owner's mailbox, oldest first: `other', or `{event, Values, Bytes}' with what
    %% its frame holds on the frame's last message, and nothing on those before.
    mailbox = [] :: [other | {event, non_neg_integer(), non_neg_integer()}],
    %% Sums of what Python has sent, and of whole frames that the owner has taken.
    sent = {0, 0} :: {non_neg_integer(), non_neg_integer()},
    taken = {0, 0} :: {non_neg_integer(), non_neg_integer()},
    %% What the last credit said.
    advertised = {0, 0} :: {non_neg_integer(), non_neg_integer()},
    %% A frame that Python holds back.
    held = none :: none | {pos_integer(), pos_integer()}
}).

%% Credit never exceeds what was taken; and when the owner has taken all and was polled,
%% Python may send whatever it holds.
-spec any_sequence(ct_suite:ct_config()) -> {comment, string()}.
any_sequence(_Config) ->
    Runs = list_to_integer(os:getenv("PY_FUZZ", "3000")),
    Seed = {7, 11, 13},
    ct:log("seed ~p, ~p runs", [Seed, Runs]),
    _ = rand:seed(exsss, Seed),
    Sent = lists:sum([run() || _ <- lists:seq(1, Runs)]),
    ?assert(Sent > Runs),
    {comment, lists:concat([Runs, " runs, ", Sent, " values"])}.

run() ->
    Size = rand:uniform(12),
    Bytes = rand:uniform(500),
    Start = #model{window = py_window:new(Size, Bytes, -1), size = Size, bytes = Bytes},
    End = #model{sent = {Sent, _}} = steps(60, Start),
    %% The owner wakes up and takes all of its mail: nothing is held back any longer.
    Emptied = advertise(poll(0, take(length(End#model.mailbox), End))),
    ?assertEqual(Emptied#model.sent, Emptied#model.advertised),
    Sent.

steps(0, M) -> M;
steps(N, M) -> steps(N - 1, check(step(rand:uniform(6), M))).

%% Python sends a frame, if it fits, or says that it does not.
step(1, M = #model{held = none, size = Size, sent = {V, _}, advertised = {TV, _}}) ->
    case TV + Size - V of
        0 -> M;
        Available -> send(M#model{held = {rand:uniform(min(Available, 4)), rand:uniform(300)}})
    end;
step(1, M) ->
    send(M);
step(2, M = #model{mailbox = Mailbox}) ->
    M#model{mailbox = Mailbox ++ [other]};
step(3, M = #model{mailbox = Mailbox}) ->
    take(rand:uniform(length(Mailbox) + 1) - 1, M);
%% The owner takes other mail, and leaves its events.
step(4, M = #model{mailbox = Mailbox}) ->
    M#model{mailbox = lists:delete(other, Mailbox)};
%% The length of the mailbox, and the count of its events.
step(5, M = #model{mailbox = Mailbox}) ->
    poll(length(Mailbox), M);
step(6, M = #model{mailbox = Mailbox}) ->
    advertise(poll(length([event || {event, _, _} <- Mailbox]), M)).

send(M = #model{held = {Values, Size}, window = W, bytes = Bytes}) ->
    #model{sent = {V, B}, advertised = {TV, TB}, mailbox = Mailbox} = M,
    Fits = V =:= TV orelse B - TB + Size =< Bytes,
    case Fits of
        true ->
            Messages = [{event, 0, 0} || _ <- lists:seq(2, Values)] ++ [{event, Values, Size}],
            M#model{
                window = py_window:received(Values, Size, Values, W),
                mailbox = Mailbox ++ Messages,
                sent = {V + Values, B + Size},
                held = none
            };
        false ->
            M#model{window = py_window:blocked(W)}
    end.

take(N, M = #model{mailbox = Mailbox, taken = {V, B}}) ->
    {Taken, Rest} = lists:split(N, Mailbox),
    Values = lists:sum([Count || {event, Count, _} <- Taken]),
    Size = lists:sum([Bytes || {event, _, Bytes} <- Taken]),
    M#model{mailbox = Rest, taken = {V + Values, B + Size}}.

poll(Length, M = #model{window = W}) ->
    M#model{window = py_window:observed(Length, W)}.

advertise(M = #model{window = W}) ->
    case py_window:grant(W) of
        {true, Credited} ->
            {Values, Bytes, -1} = py_window:credit(Credited),
            M#model{window = Credited, advertised = {Values, Bytes}};
        {false, _} ->
            M
    end.

check(M = #model{advertised = {TV, TB}, taken = {V, B}, mailbox = Mailbox, window = W}) ->
    ?assert(TV =< V andalso TB =< B),
    ?assert(py_window:in_flight(W) >= length([event || {event, _, _} <- Mailbox])),
    %% A stream that may be waiting for its owner never times out.
    M#model.held =:= none orelse ?assert(py_window:exhausted(W) orelse py_window:waiting(W)),
    M.
