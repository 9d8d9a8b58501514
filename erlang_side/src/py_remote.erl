%% @doc The near side of a request that another node runs: it starts the relay there, asks the
%% next node where one refuses, and knows what the relay's messages mean.
%%
%% The process that opens a request gets its messages, and ends the request by ending: the
%% relay monitors it.
%% @hidden
-module(py_remote).

-include("py_cluster.hrl").

-export([open/3, message/2, number/2, credit/2, bad_frame/1, finished/1]).
-export([ask/3, ask_all/3]).
-export_type([remote/0, found/0]).

-record(remote, {
    kind :: stream | call,
    request :: map(),
    route :: py_cluster:route(),
    pool :: atom() | pid(),
    node :: node(),
    monitor :: reference(),
    %% Known when it has accepted the request: nothing is tried elsewhere from then on.
    relay :: undefined | pid(),
    %% The number of the next frame.
    next = 1 :: pos_integer()
}).
-opaque remote() :: #remote{}.

-type found() ::
    {near, py_cluster:route()}
    | {far, remote()}
    | none.
%% Where a request goes: to a pool of this node, to another node, or nowhere: all have refused.

%% @doc Sends a request on its way. Returns before the other node is connected.
-spec open(stream | call, map(), py_cluster:route()) -> found().
open(Kind, Request, Route) ->
    case py_cluster:next(Route) of
        none ->
            none;
        {Node, Rest} when Node =:= node() ->
            {near, Rest};
        {Node, Rest = #route{pool = Pool}} ->
            py_cluster:began(Pool, Node),
            Asked = Request#{from => self(), pool => Pool},
            Monitor = erlang:spawn_request(Node, py_relay, Kind, [?CLUSTER_VERSION, Asked], [
                monitor, {reply, error_only}
            ]),
            {far, #remote{kind = Kind, request = Request, route = Rest, pool = Pool, node = Node, monitor = Monitor}}
    end.

%% @doc What a message means, other than a frame with a number.
-spec message(term(), remote()) ->
    {accepted, map(), remote()}
    | {last, binary(), remote()}
    | {reply, binary(), Worker :: pid()}
    | {refused, py_error:reason(), found()}
    | {ended, py_error:reason()}
    | unrelated.
message({py_far, accepted, Relay, About, Load}, R = #remote{pool = Pool, node = Node, relay = undefined}) when
    node(Relay) =:= Node
->
    py_cluster:load(Pool, Node, Load),
    %% The arguments are not needed any more.
    {accepted, About, R#remote{relay = Relay, request = #{}}};
message({py_far, last, Number, Payload, Load}, R = #remote{pool = Pool, node = Node, next = Next}) ->
    py_cluster:load(Pool, Node, Load),
    case Number of
        Next -> {last, Payload, R};
        _ -> {ended, {nodedown, Node}}
    end;
message({py_far, reply, Payload, Load, Worker}, #remote{pool = Pool, node = Node}) ->
    py_cluster:load(Pool, Node, Load),
    {reply, Payload, Worker};
message({py_far, refused, Reason, Load}, R = #remote{pool = Pool, node = Node, relay = undefined}) ->
    py_cluster:load(Pool, Node, Load),
    refused(Reason, R);
message({'DOWN', Monitor, process, _, Reason}, R = #remote{monitor = Monitor}) ->
    down(Reason, R);
message({spawn_reply, Monitor, error, Reason}, R = #remote{monitor = Monitor}) ->
    down(Reason, R);
message(_, _) ->
    unrelated.

down(noconnection, #remote{node = Node}) ->
    {ended, {nodedown, Node}};
down({undef, [{py_relay, _, _, _} | _]}, R = #remote{relay = undefined, node = Node}) ->
    refused({not_supported, Node}, R);
down({function_clause, [{py_relay, _, _, _} | _]}, R = #remote{relay = undefined, node = Node}) ->
    refused({not_supported, Node}, R);
down(notsup, R = #remote{node = Node}) ->
    refused({not_supported, Node}, R);
down(Reason, _R) ->
    {ended, py_error:worker_exit(Reason)}.

refused(Reason, R = #remote{kind = Kind, request = Request, route = Route, monitor = Monitor}) ->
    demonitor(Monitor, [flush]),
    finished(R),
    {refused, Reason, open(Kind, Request, Route)}.

%% @doc The request has ended, whatever its end was.
-spec finished(remote()) -> ok.
finished(#remote{pool = Pool, node = Node}) ->
    py_cluster:ended(Pool, Node).

%% @doc A frame came. One that is not the next one says that others are lost: the connection was.
-spec number(integer(), remote()) -> {ok, remote()} | {ended, py_error:reason()}.
number(Next, R = #remote{next = Next, relay = Relay}) when is_pid(Relay) -> {ok, R#remote{next = Next + 1}};
number(_Number, #remote{node = Node}) -> {ended, {nodedown, Node}}.

%% @doc Gives Python credit. Before the relay has accepted there is none to give.
-spec credit({non_neg_integer(), non_neg_integer(), integer()}, remote()) -> ok.
credit({Values, Bytes, Demand}, R) ->
    tell({py_credit, Values, Bytes, Demand}, R).

%% @doc A frame of its worker cannot be decoded.
-spec bad_frame(remote()) -> ok.
bad_frame(R) ->
    tell(py_bad_frame, R).

tell(_Message, #remote{relay = undefined}) ->
    ok;
tell(Message, #remote{relay = Relay}) ->
    %% If it cannot be sent, a `DOWN' message is on its way.
    _ = erlang:send(Relay, Message, [noconnect]),
    ok.

%% @doc Asks a node for whatever needs no process of its own. An option that is wrong there is
%% raised here.
-spec ask(node(), py_relay:question(), timeout()) -> term().
ask(Node, Question, Timeout) ->
    [{Node, Result}] = ask_all([Node], Question, Timeout),
    case Result of
        {raised, Reason} -> error(Reason);
        _ -> Result
    end.

%% @doc The same for several nodes at once.
-spec ask_all([node()], py_relay:question(), timeout()) -> [{node(), term()}].
ask_all(Nodes, Question, Timeout) ->
    Results = erpc:multicall(Nodes, py_relay, ask, [?CLUSTER_VERSION, Question], Timeout),
    [{Node, asked(Node, Result)} || {Node, Result} <- lists:zip(Nodes, Results)].

asked(_Node, {ok, Result}) -> Result;
asked(Node, {error, {erpc, noconnection}}) -> {error, {nodedown, Node}};
asked(_Node, {error, {erpc, timeout}}) -> {error, timeout};
asked(_Node, {error, {exception, {badopt, Option}, _}}) -> {raised, {badopt, Option}};
asked(Node, {error, {exception, undef, [{py_relay, _, _, _} | _]}}) -> {error, {not_supported, Node}};
asked(Node, {error, {exception, function_clause, [{py_relay, _, _, _} | _]}}) -> {error, {not_supported, Node}};
asked(Node, {error, {erpc, notsup}}) -> {error, {not_supported, Node}};
asked(_Node, {_Class, Reason}) -> {error, py_error:worker_exit(Reason)}.
