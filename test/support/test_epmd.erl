%% @doc What a node behind a {@link test_link} has in place of `erl_epmd': it registers the port of
%% the link as its own, so that whoever connects to it comes over that link. It finds no other node: a connection that
%% it made itself would not be over the link, and cutting that would cut nothing.
-module(test_epmd).

-export([start_link/0, register_node/2, register_node/3]).
-export([port_please/2, port_please/3, address_please/3, listen_port_please/2, names/1]).

start_link() ->
    erl_epmd:start_link().

register_node(Name, Port) ->
    register_node(Name, Port, inet).

register_node(Name, _Port, Family) ->
    erl_epmd:register_node(Name, list_to_integer(os:getenv("LINK_PORT")), Family).

port_please(_Node, _Host) -> noport.
port_please(_Node, _Host, _Timeout) -> noport.
address_please(Name, Host, Family) -> erl_epmd:address_please(Name, Host, Family).
listen_port_please(_Name, _Host) -> {ok, list_to_integer(os:getenv("LISTEN_PORT"))}.
names(Host) -> erl_epmd:names(Host).
