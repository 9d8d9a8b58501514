#!/usr/bin/env escript
%% Streams from Python, shown one after the other. `script/demo' runs it.
-mode(compile).

main([]) ->
    Here = filename:dirname(filename:absname(escript:script_name())),
    %% One worker: a model that one call has trained is there for the next. It runs all of the
    %% streams below at once where that is asked of it.
    Pool = #{workers => 1, python_path => [Here]},
    ok = application:load(erlang_python),
    ok = application:set_env(erlang_python, pools, #{default => Pool}),
    {ok, _} = application:ensure_all_started(erlang_python),
    {ok, Version} = py:version(),
    say("Erlang/OTP ~s runs Python ~s", [erlang:system_info(otp_release), Version]),
    progress(),
    tokens(),
    file_lines(filename:join(filename:dirname(Here), "LICENSE")),
    async_source(),
    sound(),
    socket(),
    cancel(),
    failure(),
    counter(2000000),
    say("That was all. The same calls work in a shell: script/shell", []).

%% A generator that yields its progress: the owner shows what has been done so far.
progress() ->
    say("A small language model learns from Python's own documentation, and says how far it is", []),
    {ok, Ref} = py:stream_start(small_lm, train, []),
    {ok, Texts} = py:stream_fold(
        fun({Name, Words, Contexts}, Count) ->
            Count rem 40 =:= 0 andalso
                line("~b texts, ~b words, ~b contexts: ~ts", [Count, Words, Contexts, Name]),
            {cont, Count + 1}
        end,
        0,
        Ref
    ),
    line("It has read ~b texts", [Texts]).

%% Each token is printed the moment that the model has chosen it.
tokens() ->
    say("The model writes on; each token is a message", []),
    Prompt = <<"An iterator">>,
    io:put_chars(Prompt),
    {ok, Ref} = py:stream_start(small_lm, sentences, [Prompt, 3], #{kwargs => #{seed => 1}}),
    print_tokens(Ref).

print_tokens(Ref) ->
    receive
        {py_stream, Ref, {data, Token}} ->
            io:put_chars(Token),
            print_tokens(Ref);
        {py_stream, Ref, done} ->
            io:nl();
        {py_stream, Ref, {error, Reason}} ->
            io:format("~nError: ~tp~n", [Reason])
    end.

%% A file is read line by line, no further ahead than the stream's window.
file_lines(Path) ->
    say("A file, line by line: the longest line of ~ts", [filename:basename(Path)]),
    {ok, Ref} = py:stream_start(sources, lines, [unicode:characters_to_binary(Path)]),
    Longest = fun({Number, Line}, {Size, _, _} = Best) ->
        case string:length(Line) of
            Longer when Longer > Size -> {cont, {Longer, Number, Line}};
            _ -> {cont, Best}
        end
    end,
    {ok, {Size, Number, Line}} = py:stream_fold(Longest, {0, 0, <<>>}, Ref),
    line("line ~b, ~b characters: ~ts", [Number, Size, Line]).

%% Two async generators run at the same time on the worker's one event loop.
async_source() ->
    say("Two async sources at once: the machine's load", []),
    {ok, Slow} = py:stream_start(sources, load, [3, 0.2]),
    {ok, Fast} = py:stream_start(sources, load, [5, 0.1]),
    Names = #{Slow => "slow", Fast => "fast"},
    print_readings(Names).

print_readings(Names) when map_size(Names) =:= 0 ->
    ok;
print_readings(Names) ->
    receive
        {py_stream, Ref, {data, Reading}} ->
            line("~s: ~0tp", [maps:get(Ref, Names), Reading]),
            print_readings(Names);
        {py_stream, Ref, done} ->
            line("~s: done", [maps:get(Ref, Names)]),
            print_readings(maps:remove(Ref, Names))
    end.

%% Sound goes in by a channel, in chunks, and its words come out as they end.
sound() ->
    say("Sound in, words out: a process feeds a generator", []),
    {ok, Chunks} = py:channel(#{binaries => bytes}),
    {ok, Words} = py:stream_start(readers, words, [Chunks]),
    _ = spawn_link(fun() -> feed(Chunks, morse("... --- -- .   .-- --- .-. -.. ...")) end),
    {ok, _} = py:stream_fold(fun(Word, _) -> {cont, line("~ts", [Word])} end, ok, Words).

%% Chunks of 1,000 bytes, as a sound card could give them.
feed(Chunks, <<Chunk:1000/binary, Sound/binary>>) ->
    ok = py:channel_send(Chunks, Chunk),
    feed(Chunks, Sound);
feed(Chunks, Rest) ->
    ok = py:channel_send(Chunks, Rest),
    ok = py:channel_close(Chunks).

%% A dot takes 60 ms, a dash three times that; between them is a dot's silence, two more
%% after each letter, and two more for each space between words.
morse(Signs) ->
    << <<(sign(Sign))/binary>> || Sign <- Signs >>.

sign($.) -> <<(tone(1))/binary, (silence(1))/binary>>;
sign($-) -> <<(tone(3))/binary, (silence(1))/binary>>;
sign($\s) -> silence(2).

tone(Dots) ->
    << <<(round(16000 * math:sin(2 * math:pi() * 440 * N / 8000))):16/native-signed>> || N <- lists:seq(1, Dots * 480) >>.

silence(Dots) ->
    <<0:(Dots * 480 * 16)>>.

%% What comes from a socket goes on as it comes; Python makes rows of it.
socket() ->
    say("Bytes of a socket in, typed rows out", []),
    {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false}]),
    {ok, Port} = inet:port(Listener),
    {ok, Device} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary]),
    {ok, Socket} = gen_tcp:accept(Listener),
    {ok, Chunks} = py:channel(#{binaries => bytes}),
    {ok, Rows} = py:stream_start(readers, readings, [Chunks]),
    _ = spawn_link(fun() -> receive_all(Socket, Chunks) end),
    ok = gen_tcp:send(Device, <<"sensor,at,celsius\ncellar,2026-11-30T08:00:00,11.5\nroof,2026-11-">>),
    ok = gen_tcp:send(Device, <<"30T08:00:00,-2.0\n">>),
    ok = gen_tcp:close(Device),
    {ok, _} = py:stream_fold(fun(Row, _) -> {cont, line("~0tp", [Row])} end, ok, Rows),
    gen_tcp:close(Listener).

receive_all(Socket, Chunks) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Chunk} ->
            %% Waits while Python has enough to do, and so the socket does.
            ok = py:channel_send(Chunks, Chunk),
            receive_all(Socket, Chunks);
        {error, closed} ->
            py:channel_close(Chunks)
    end.

%% A stream without an end is stopped; its generator's `finally' block runs.
cancel() ->
    say("A stream without an end is cancelled", []),
    {ok, Ref} = py:stream_start(sources, count_for_ever, []),
    {ok, 0} = py:stream_next(Ref),
    {ok, 1} = py:stream_next(Ref),
    ok = py:stream_cancel(Ref, [flush]),
    {ok, true} = py:call(sources, wait_until_closed, [5.0]),
    line("cancelled; its finally block has run", []).

%% What was yielded before an exception arrives before the error does.
failure() ->
    say("A generator that fails", []),
    {ok, Ref} = py:stream_start(sources, temperatures, [[<<"21.5">>, <<"22.0">>, <<"warm">>]]),
    {error, Reason, Values} = py:stream_fold(fun(V, Vs) -> {cont, [V | Vs]} end, [], Ref),
    line("values: ~p, then: ~tp", [lists:reverse(Values), Reason]).

%% The counter goes up while the stream runs; the window keeps the mailbox small.
counter(N) ->
    say("A fast stream of ~b integers, counted while it runs", [N]),
    {ok, Ref} = py:stream_start(builtins, range, [N]),
    Begin = erlang:monotonic_time(millisecond),
    count(Ref, N, 0, Begin, Begin).

count(Ref, N, Count, Begin, Shown) ->
    receive
        {py_stream, Ref, {data, Count}} when Count rem 10000 =:= 0 ->
            count(Ref, N, Count + 1, Begin, show(Count, Begin, Shown));
        {py_stream, Ref, {data, Count}} ->
            count(Ref, N, Count + 1, Begin, Shown);
        {py_stream, Ref, done} ->
            Milliseconds = max(1, erlang:monotonic_time(millisecond) - Begin),
            N = Count,
            line("~b events in ~b ms, in order: ~b a second", [N, Milliseconds, N * 1000 div Milliseconds])
    end.

show(Count, Begin, Shown) ->
    case erlang:monotonic_time(millisecond) of
        Now when Now - Shown < 250 ->
            Shown;
        Now ->
            {message_queue_len, Queue} = process_info(self(), message_queue_len),
            line("~b events, ~b a second, ~b in the mailbox", [Count, Count * 1000 div (Now - Begin), Queue]),
            Now
    end.

say(Format, Arguments) ->
    io:format("~n== " ++ Format ++ "~n", Arguments).

line(Format, Arguments) ->
    io:format(Format ++ "~n", Arguments).
