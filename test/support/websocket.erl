%% @doc Stands for the WebSocket library of the streaming guide's example: a frame is
%% a message to the process that plays the client.
-module(websocket).

-export([send/2]).

-spec send(pid(), binary()) -> ok.
send(WebSocket, Frame) ->
    WebSocket ! {websocket, Frame},
    ok.
