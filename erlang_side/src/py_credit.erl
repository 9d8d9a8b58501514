%% @doc Flow control of what Python sends by itself: how many bytes of one kind of frame
%% the node has taken. Python holds back what would exceed its own limit.
%% @hidden
-module(py_credit).

-include("py_worker.hrl").

-export([new/3, taken/2]).
-export_type([credit/0]).

-record(credit, {
    worker :: #worker{},
    kind :: py_frame:counted(),
    %% Python is sent the sum when it has grown by this much. A larger number makes it wait
    %% in larger steps, a smaller one costs frames.
    step :: pos_integer(),
    total = 0 :: non_neg_integer(),
    acknowledged = 0 :: non_neg_integer()
}).
-opaque credit() :: #credit{}.

-spec new(#worker{}, py_frame:counted(), Step :: pos_integer()) -> credit().
new(Worker, Kind, Step) ->
    #credit{worker = Worker, kind = Kind, step = Step}.

%% @doc `Bytes' more were taken; Python gets the sum if that is worth a frame.
-spec taken(non_neg_integer(), credit()) -> credit().
taken(Bytes, C = #credit{total = Before, acknowledged = Acknowledged, step = Step}) ->
    case Before + Bytes of
        Total when Total - Acknowledged >= Step ->
            _ = py_port:write(C#credit.worker, py_frame:ack(C#credit.kind, Total)),
            C#credit{total = Total, acknowledged = Total};
        Total ->
            C#credit{total = Total}
    end.
