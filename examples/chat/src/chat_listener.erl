%% @doc Listens on the loopback interface, and starts a process for each connection.
-module(chat_listener).

-export([start_link/1, url/0]).
-export([init/1]).

%% @doc Port 0 is any that is free; {@link url/0} says which.
-spec start_link(inet:port_number()) -> {ok, pid()} | {error, term()}.
start_link(Port) ->
    proc_lib:start_link(?MODULE, init, [Port]).

%% @doc Where the page is.
-spec url() -> string().
url() ->
    persistent_term:get({?MODULE, url}).

%% @private
-spec init(inet:port_number()) -> no_return().
init(Port) ->
    Options = [
        binary,
        {ip, {127, 0, 0, 1}},
        {active, false},
        {reuseaddr, true},
        {backlog, 128},
        %% The VM parses the request line and the headers.
        {packet, http_bin},
        %% The longest line: the prompt is in the first one.
        {buffer, 65536},
        %% A token is sent at once, not when a segment is full.
        {nodelay, true},
        %% What a reader has not taken waits in the generator, not in the kernel.
        {sndbuf, 16384},
        {high_watermark, 8192},
        {low_watermark, 4096},
        %% A reader that takes nothing at all for so long is gone.
        {send_timeout, 60000},
        {send_timeout_close, true}
    ],
    case gen_tcp:listen(Port, Options) of
        {ok, Listener} ->
            true = register(?MODULE, self()),
            {ok, Bound} = inet:port(Listener),
            Url = "http://localhost:" ++ integer_to_list(Bound) ++ "/",
            ok = persistent_term:put({?MODULE, url}, Url),
            ok = proc_lib:init_ack({ok, self()}),
            accept(Listener);
        {error, Reason} ->
            exit({cannot_listen, Port, Reason})
    end.

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    {ok, Connection} = supervisor:start_child(chat_connections, [Socket]),
    %% An error says that the browser is gone again, which the connection finds itself.
    _ = gen_tcp:controlling_process(Socket, Connection),
    Connection ! {go, Socket},
    accept(Listener).
