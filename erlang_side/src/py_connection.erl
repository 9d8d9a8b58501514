%% @doc Messages to another node that stay on one connection.
%%
%% What is under way when a connection is lost is missing. `noconnect' makes no other one, but somebody else
%% may have, before this process gets the `DOWN' of its monitor: what it sends then would come behind a
%% gap. So whoever needs its messages without one remembers the connection, which has
%% a port or a process of its own (`dist_ctrl', erlang:system_info/1).
%% @hidden
-module(py_connection).

-export([to/1, send/3]).
-export_type([connection/0]).

-type connection() :: port() | pid() | none.

%% @doc The connection to a node, if there is one.
-spec to(node()) -> connection().
to(Node) ->
    case lists:keyfind(Node, 1, erlang:system_info(dist_ctrl)) of
        {Node, Connection} -> Connection;
        false -> none
    end.

%% @doc Sends on that connection; `lost' if it is not there any more. Between the check and the send
%% a connection would have to be lost and made anew.
-spec send(connection(), pid(), term()) -> ok | lost.
send(Connection, To, Message) ->
    case Connection =/= none andalso to(node(To)) =:= Connection andalso erlang:send(To, Message, [noconnect]) of
        ok -> ok;
        _ -> lost
    end.
