%% @doc One request of a browser: a file of the page, or the tokens of an answer.
-module(chat_connection).

-export([start_link/1]).
-export([init/1]).

%% A prompt is in the address of the request, so it has a limit.
-define(MAX_PROMPT, 4000).
-define(MAX_HEADERS, 100).

-spec start_link(gen_tcp:socket()) -> {ok, pid()}.
start_link(Socket) ->
    {ok, proc_lib:spawn_link(?MODULE, init, [Socket])}.

%% @private
-spec init(gen_tcp:socket()) -> ok.
init(Socket) ->
    receive
        {go, Socket} -> ok
    end,
    case request(Socket) of
        {ok, Target} -> answer(Socket, uri_string:parse(Target));
        {error, Status} -> reply(Socket, Status, <<"text/plain">>, Status)
    end,
    gen_tcp:close(Socket).

%% What is asked for, once all headers are read. None of them matters here.
request(Socket) ->
    case gen_tcp:recv(Socket, 0, 10000) of
        {ok, {http_request, 'GET', {abs_path, Target}, _Version}} -> headers(Socket, Target, ?MAX_HEADERS);
        {ok, {http_request, _Method, _Target, _Version}} -> {error, <<"405 Method Not Allowed">>};
        _ -> {error, <<"400 Bad Request">>}
    end.

headers(_Socket, _Target, 0) ->
    {error, <<"431 Request Header Fields Too Large">>};
headers(Socket, Target, Left) ->
    case gen_tcp:recv(Socket, 0, 10000) of
        {ok, {http_header, _, _Name, _, _Value}} -> headers(Socket, Target, Left - 1);
        {ok, http_eoh} -> {ok, Target};
        _ -> {error, <<"400 Bad Request">>}
    end.

answer(Socket, #{path := <<"/tokens">>} = Uri) ->
    case uri_string:dissect_query(maps:get(query, Uri, <<>>)) of
        [{<<"prompt">>, Prompt}] when is_binary(Prompt), byte_size(Prompt) =< ?MAX_PROMPT ->
            stream(Socket, Prompt);
        _ ->
            reply(Socket, <<"400 Bad Request">>, <<"text/plain">>, <<"no prompt, or too long a one">>)
    end;
answer(Socket, #{path := <<"/">>}) ->
    file(Socket, "index.html", <<"text/html; charset=utf-8">>);
answer(Socket, #{path := <<"/chat.css">>}) ->
    file(Socket, "chat.css", <<"text/css">>);
answer(Socket, #{path := <<"/chat.js">>}) ->
    file(Socket, "chat.js", <<"text/javascript">>);
answer(Socket, _Uri) ->
    reply(Socket, <<"404 Not Found">>, <<"text/plain">>, <<"Not Found">>).

file(Socket, Name, Type) ->
    {ok, Content} = file:read_file(filename:join([code:priv_dir(chat), "page", Name])),
    reply(Socket, <<"200 OK">>, Type, Content).

reply(Socket, Status, Type, Content) ->
    Length = ["Content-Length: ", integer_to_binary(iolist_size(Content)), "\r\n"],
    %% An error says that the browser is gone, and nothing is left to do.
    _ = gen_tcp:send(Socket, [head(Status, Type), Length, "\r\n", Content]),
    ok.

head(Status, Type) ->
    [
        ["HTTP/1.1 ", Status, "\r\nContent-Type: ", Type, "\r\n"],
        "Connection: close\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        "Content-Security-Policy: default-src 'self'; img-src data:; frame-ancestors 'none'\r\n"
    ].

%% The answer as Server-Sent Events. This process owns the stream, so the generator is closed
%% when it ends, for whatever reason.
stream(Socket, Prompt) ->
    {ok, {Module, Function}} = application:get_env(chat, model),
    %% JSON comes ready for the socket. A small window: the model runs no further ahead of a
    %% slow reader than this.
    Options = #{pool => chat, format => json, window => 16},
    case py:stream_start(Module, Function, [Prompt], Options) of
        {ok, Ref} ->
            %% From here on the end of the connection is a message, as the tokens are.
            ok = send(Socket, [head(<<"200 OK">>, <<"text/event-stream">>), "\r\n"]),
            _ = inet:setopts(Socket, [{packet, raw}, {active, true}]),
            tokens(Socket, Ref);
        {error, Reason} ->
            ok = send(Socket, [head(<<"200 OK">>, <<"text/event-stream">>), "\r\n"]),
            failed(Socket, Reason)
    end.

tokens(Socket, Ref) ->
    receive
        {py_stream, Ref, {data, Token}} ->
            %% Waits for a reader that is slow. Meanwhile nothing is taken, so Python waits, too.
            ok = send(Socket, ["data: ", Token, "\n\n"]),
            tokens(Socket, Ref);
        {py_stream, Ref, done} ->
            send(Socket, "event: done\ndata:\n\n");
        {py_stream, Ref, {error, Reason}} ->
            failed(Socket, Reason);
        {tcp_closed, Socket} ->
            exit(normal);
        {tcp_error, Socket, _Reason} ->
            exit(normal);
        {tcp, Socket, _Unasked} ->
            tokens(Socket, Ref)
    end.

failed(Socket, Reason) ->
    Lines = string:split(py:format_error(Reason), "\n", all),
    Text = [["data: ", unicode:characters_to_binary(Line), "\n"] || Line <- Lines],
    send(Socket, ["event: failed\n", Text, "\n"]).

%% A browser that is gone is no fault: the process ends, and its stream with it.
send(Socket, Data) ->
    case gen_tcp:send(Socket, Data) of
        ok -> ok;
        {error, _Reason} -> exit(normal)
    end.
