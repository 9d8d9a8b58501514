%% @doc The pools of a cluster: who offers which, and which node has the least to do.
%%
%% Membership is a group of `pg', with the manager of a pool as its member. It joins when a
%% worker is ready, leaves to be drained, and drops out by dying. The load of a node comes
%% with each of its replies; nothing is sent for it alone.
%%
%% A row of the table py_cluster is `{{Pool, Node}, Own, Base, Workers, At}': how many requests
%% of this node run there, what is to be added to that for the load, how many workers there
%% are, and when that was said.
%% @hidden
-module(py_cluster).

-include("py_cluster.hrl").

-export([child_spec/0, tables/0]).
-export([show/3, monitor/0, members/1, offering/1]).
-export([route/1, here/1, next/1, began/2, ended/2, load/3]).
-export_type([route/0, shown/0]).

-type route() :: #route{}.
-type shown() :: none | offered | draining.

-define(SCOPE, erlang_python).
-define(TABLE, py_cluster).

%% What a node said of its load counts for so long. A larger number leaves a node alone for
%% longer that was busy once, a smaller one knows less of it.
-define(STALE_MS, 2000).

-spec child_spec() -> supervisor:child_spec().
child_spec() ->
    #{id => pg, start => {py_groups, start_link, [?SCOPE]}}.

%% @doc Makes the table; its owner outlives every request.
-spec tables() -> ok.
tables() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {write_concurrency, true}, {read_concurrency, true}]),
    ok.

%%% Membership.

%% @doc Shows the calling manager to the cluster as it is now. `none' if it cannot be shown:
%% the process of `pg' is about to be restarted.
-spec show(atom(), Was :: shown(), shown()) -> shown().
show(_Name, Same, Same) ->
    Same;
show(Name, Was, Now) ->
    try
        %% First into the new group, so that it is always in one of them, for any other node.
        _ = Now =:= none orelse pg:join(?SCOPE, group(Name, Now), self()),
        _ = Was =:= none orelse pg:leave(?SCOPE, group(Name, Was), self()),
        Now
    catch
        exit:_ -> none
    end.

group(Name, offered) -> {?CLUSTER_VERSION, Name};
group(Name, draining) -> {?CLUSTER_VERSION, {draining, Name}}.

%% @doc Monitors the process of the groups.
-spec monitor() -> reference().
monitor() ->
    monitor(process, ?SCOPE).

%% @doc The nodes that offer a pool, those that are drained included.
-spec members(atom()) -> [node()].
members(Name) ->
    lists:usort([node(Pid) || Shown <- [offered, draining], Pid <- shown(Name, Shown)]).

%% @doc The nodes that offer a pool and take requests.
-spec offering(atom()) -> [node()].
offering(Name) ->
    lists:usort([node(Pid) || Pid <- shown(Name, offered)]).

%% The groups hear of a node that has gone a little after everybody else.
shown(Name, Shown) ->
    Connected = [node() | nodes(connected)],
    try
        [Pid || Pid <- pg:get_members(?SCOPE, group(Name, Shown)), lists:member(node(Pid), Connected)]
    catch
        %% The application does not run, so nobody is known.
        error:badarg -> []
    end.

%%% The choice.

%% @doc The way to a pool, unless nobody offers it.
-spec route(py_options:destination()) -> {ok, route()} | {error, {no_pool, atom()}}.
route(Pid) when is_pid(Pid) ->
    {ok, #route{pool = Pid, to = {node, node(Pid)}}};
route({Name, To}) when To =:= any; To =:= local_first ->
    Route = #route{pool = Name, to = To},
    case next(Route) of
        none -> {error, {no_pool, Name}};
        _ -> {ok, Route}
    end;
route({Name, Node}) ->
    {ok, #route{pool = Name, to = {node, Node}}};
route(Name) ->
    {ok, #route{pool = Name, to = {node, here}}}.

%% @doc The way to a pool of this node, however it was named.
-spec here(atom() | pid() | {atom(), node()}) -> route().
here({Name, _Node}) -> here(Name);
here(Name) -> #route{pool = Name, to = {node, here}}.

%% @doc The node to ask now, which is not asked again.
-spec next(route()) -> {node(), route()} | none.
next(Route = #route{to = {node, here}, tried = []}) ->
    {node(), Route#route{tried = [node()]}};
next(Route = #route{to = {node, Node}, tried = []}) ->
    {Node, Route#route{tried = [Node]}};
next(#route{to = {node, _}}) ->
    none;
next(Route = #route{to = local_first, tried = Tried, pool = Name}) ->
    %% One that has no pool of this name is not asked for it.
    case lists:member(node(), Tried) orelse not py_pool:is_ready(Name) of
        false -> {node(), Route#route{tried = [node() | Tried]}};
        true -> next(Route#route{to = any})
    end;
next(Route = #route{to = any, tried = Tried, pool = Name}) ->
    case offering(Name) -- Tried of
        [] ->
            none;
        Nodes ->
            Now = py_clock:now_ms(),
            %% Of those that are equal a different one each time.
            Ranked = [{expected(Name, Node, Now), rand:uniform(), Node} || Node <- Nodes],
            {_, _, Node} = lists:min(Ranked),
            {Node, Route#route{tried = [Node | Tried]}}
    end.

%% Requests for each worker: what was said, and what this node has added since.
expected(Name, Node, _Now) when Node =:= node() ->
    {Requests, Workers} = py_pool:pool_load(Name),
    Requests / max(1, Workers);
expected(Name, Node, Now) ->
    case row({Name, Node}) of
        {_, Own, Base, Workers, At} when Now - At < ?STALE_MS -> max(0, Base + Own) / max(1, Workers);
        {_, Own, _Base, Workers, _At} -> max(0, Own) / max(1, Workers);
        none -> 0
    end.

row(Key) ->
    try ets:lookup(?TABLE, Key) of
        [Row] -> Row;
        [] -> none
    catch
        error:badarg -> none
    end.

%% @doc A request goes to a node.
-spec began(atom() | pid(), node()) -> ok.
began(Name, Node) ->
    add(Name, Node, 1).

%% @doc It has ended, however that was.
-spec ended(atom() | pid(), node()) -> ok.
ended(Name, Node) ->
    add(Name, Node, -1).

%% Without a name of its own a worker has no group, and nobody chooses it.
add(Name, Node, N) when is_atom(Name) ->
    try
        _ = ets:update_counter(?TABLE, {Name, Node}, {2, N}, {{Name, Node}, 0, 0, 1, 0}),
        ok
    catch
        error:badarg -> ok
    end;
add(_Pid, _Node, _N) ->
    ok.

%% @doc What a node says of its load: requests under way, and workers.
-spec load(atom() | pid(), node(), {non_neg_integer(), non_neg_integer()}) -> ok.
load(Name, Node, {Requests, Workers}) ->
    case row({Name, Node}) of
        {Key, Own, _, _, _} ->
            _ = ets:update_element(?TABLE, Key, [{3, Requests - Own}, {4, Workers}, {5, py_clock:now_ms()}]),
            ok;
        none ->
            ok
    end.
