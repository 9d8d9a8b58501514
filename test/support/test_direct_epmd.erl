%% @doc What a node of {@link test_netns} uses instead of `erl_epmd': no daemon is asked. It listens where
%% LISTEN_PORT says, and reaches the one other node that there is by PEER_ADDRESS and PEER_PORT.
-module(test_direct_epmd).

-export([start_link/0, register_node/2, register_node/3]).
-export([port_please/2, port_please/3, address_please/3, listen_port_please/2, names/1]).

start_link() ->
    ignore.

register_node(Name, Port) ->
    register_node(Name, Port, inet).

register_node(_Name, _Port, _Family) ->
    {ok, erlang:system_time(second) band 16#FFFFFFF + 4}.

port_please(Node, Host) ->
    port_please(Node, Host, infinity).

port_please(_Node, _Host, _Timeout) ->
    {port, env("PEER_PORT"), 6}.

address_please(_Name, _Host, _Family) ->
    {ok, Address} = inet:parse_address(os:getenv("PEER_ADDRESS")),
    {ok, Address, env("PEER_PORT"), 6}.

listen_port_please(_Name, _Host) ->
    {ok, env("LISTEN_PORT")}.

names(_Host) ->
    {error, address}.

env(Name) ->
    list_to_integer(os:getenv(Name)).
