%% @doc Every example of the streaming guide, as the guide prints it.
%%
%% The same cases run with the examples' Python modules written as sync and as async
%% generators, with one worker and with several, and with a Python that has no packages.
-module(guide_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0]).
-export([init_per_group/2, end_per_group/2, end_per_testcase/2]).
-export([
    true_streaming/1,
    events_of_a_failing_stream/1,
    owner/1,
    cancellation/1,
    async_generator/1,
    generator_expressions/1,
    iterator_objects/1,
    generator_functions/1,
    generator_functions_from_any_process/1,
    inline_lambda/1,
    llm_token_streaming/1,
    llm_token_streaming_that_fails/1,
    data_processing_pipeline/1,
    batch_processing/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [{group, atom()}].
all() ->
    [{group, sync}, {group, async}, {group, one_worker}, {group, bare_python}].

-spec groups() -> [{atom(), [atom()], [atom()]}].
groups() ->
    Cases = [
        true_streaming,
        events_of_a_failing_stream,
        owner,
        cancellation,
        async_generator,
        generator_expressions,
        iterator_objects,
        generator_functions,
        generator_functions_from_any_process,
        inline_lambda,
        llm_token_streaming,
        llm_token_streaming_that_fails,
        data_processing_pipeline,
        batch_processing
    ],
    [{Group, [], Cases} || Group <- [sync, async, one_worker, bare_python]].

-spec init_per_group(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_group(async, Config) ->
    start(#{workers => 3, python_path => modules(async, Config)}, Config);
init_per_group(sync, Config) ->
    start(#{workers => 3, python_path => modules(sync, Config)}, Config);
init_per_group(one_worker, Config) ->
    start(#{workers => 1, python_path => modules(sync, Config)}, Config);
init_per_group(bare_python, Config) ->
    Python = test_bare_python:make(filename:join(?config(priv_dir, Config), "bare")),
    start(#{workers => 2, python => Python, python_path => modules(async, Config)}, Config).

modules(Kind, Config) ->
    [filename:join(?config(data_dir, Config), Kind)].

start(Pool, Config) ->
    Default = Pool#{cd => ?config(priv_dir, Config)},
    ok = application:set_env(erlang_python, pools, #{default => Default}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_group(atom(), ct_suite:ct_config()) -> ok.
end_per_group(_Group, _Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

%% No example leaves a message behind that it does not mention.
-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok | {fail, term()}.
end_per_testcase(_Case, _Config) ->
    receive
        {py_stream, _, _} = Left -> {fail, {left_in_mailbox, Left}}
    after 0 -> ok
    end.

%% The values of an iterator arrive as events, in order, and `done' comes last.
-spec true_streaming(ct_suite:ct_config()) -> ok.
true_streaming(_Config) ->
    %% Start streaming from a Python iterator
    {ok, Ref} = py:stream_start(builtins, iter, [[1,2,3,4,5]]),

    %% Receive events as values are yielded
    Printed = printed(fun() -> receive_loop(Ref) end),
    ?assertEqual("Got: 1\nGot: 2\nGot: 3\nGot: 4\nGot: 5\nComplete\n", Printed).

%% The guide's loop prints the error of a stream that fails after some values.
-spec events_of_a_failing_stream(ct_suite:ct_config()) -> ok.
events_of_a_failing_stream(_Config) ->
    ok = py:exec(<<"
def two_then_fail():
    yield 1
    yield 2
    raise ValueError('no more')
">>),
    {ok, Ref} = py:stream_start('__main__', two_then_fail, []),
    Printed = printed(fun() -> receive_loop(Ref) end),
    ?assertEqual("Got: 1\nGot: 2\nError: {'ValueError',<<\"no more\">>}\n", Printed).

receive_loop(Ref) ->
    receive
        {py_stream, Ref, {data, Value}} ->
            io:format("Got: ~p~n", [Value]),
            receive_loop(Ref);
        {py_stream, Ref, done} ->
            io:format("Complete~n");
        {py_stream, Ref, {error, Reason}} ->
            io:format("Error: ~p~n", [Reason])
    after 30000 ->
        timeout
    end.

%% Events go to the process named as the owner, and to no other.
-spec owner(ct_suite:ct_config()) -> ok.
owner(_Config) ->
    Test = self(),
    OtherPid = spawn_link(fun() -> receive {events_of, Ref} -> Test ! {collected, Ref, collect(Ref)} end end),
    {Module, Func, Args} = {builtins, range, [3]},
    %% Send events to a different process
    {ok, Ref} = py:stream_start(Module, Func, Args, #{owner => OtherPid}),
    OtherPid ! {events_of, Ref},
    receive {collected, Ref, Events} -> ?assertEqual([{data, 0}, {data, 1}, {data, 2}, done], Events) end.

collect(Ref) ->
    receive
        {py_stream, Ref, {data, _} = Data} -> [Data | collect(Ref)];
        {py_stream, Ref, Terminal} -> [Terminal]
    end.

%% A cancelled stream ends although its generator would go on.
-spec cancellation(ct_suite:ct_config()) -> ok.
cancellation(_Config) ->
    {ok, Ref} = py:stream_start(my_module, long_generator, []),
    %% ... receive some values ...
    receive {py_stream, Ref, {data, First}} -> ?assertEqual(0, First) end,
    receive {py_stream, Ref, {data, Second}} -> ?assertEqual(1, Second) end,
    ok = py:stream_cancel(Ref),
    %% Stream will stop on next iteration
    ?assertEqual({error, cancelled}, lists:last(collect(Ref))).

%% An async generator streams, and `asyncio' is there without an import.
-spec async_generator(ct_suite:ct_config()) -> ok.
async_generator(_Config) ->
    %% Async generator (e.g., streaming from an async API)
    ok = py:exec(<<"
async def async_gen():
    for i in range(5):
        await asyncio.sleep(0.1)
        yield i
">>),
    {ok, Ref} = py:stream_start('__main__', async_gen, []),
    ?assertEqual([{data, I} || I <- lists:seq(0, 4)] ++ [done], collect(Ref)).

%% Generator expressions give their values as one list.
-spec generator_expressions(ct_suite:ct_config()) -> ok.
generator_expressions(_Config) ->
    %% Stream squares of numbers 0-9
    {ok, Squares} = py:stream_eval(<<"(x**2 for x in range(10))">>),
    ?assertEqual([0,1,4,9,16,25,36,49,64,81], Squares),

    %% Stream uppercase characters
    {ok, Upper} = py:stream_eval(<<"(c.upper() for c in 'hello')">>),
    ?assertEqual([<<"H">>,<<"E">>,<<"L">>,<<"L">>,<<"O">>], Upper),

    %% Stream filtered values
    {ok, Evens} = py:stream_eval(<<"(x for x in range(20) if x % 2 == 0)">>),
    ?assertEqual([0,2,4,6,8,10,12,14,16,18], Evens).

%% Any iterator streams, and pairs arrive as tuples.
-spec iterator_objects(ct_suite:ct_config()) -> ok.
iterator_objects(_Config) ->
    %% Stream from range
    {ok, Numbers} = py:stream_eval(<<"iter(range(5))">>),
    ?assertEqual([0,1,2,3,4], Numbers),

    %% Stream dictionary items
    {ok, Items} = py:stream_eval(<<"iter({'a': 1, 'b': 2}.items())">>),
    ?assertEqual([{<<"a">>, 1}, {<<"b">>, 2}], Items).

%% A generator function that `exec' defines streams from `__main__'.
-spec generator_functions(ct_suite:ct_config()) -> ok.
generator_functions(_Config) ->
    define_fibonacci(),
    {ok, Fib} = py:stream('__main__', fibonacci, [10]),
    ?assertEqual([0,1,1,2,3,5,8,13,21,34], Fib).

%% The same holds from any process and on whichever worker the stream lands.
-spec generator_functions_from_any_process(ct_suite:ct_config()) -> ok.
generator_functions_from_any_process(_Config) ->
    define_fibonacci(),
    Stream = fun() -> exit(py:stream('__main__', fibonacci, [10])) end,
    Monitors = [spawn_monitor(Stream) || _ <- lists:seq(1, 20)],
    [
        receive {'DOWN', Monitor, process, Pid, Result} ->
            ?assertEqual({ok, [0,1,1,2,3,5,8,13,21,34]}, Result)
        end
     || {Pid, Monitor} <- Monitors
    ],
    ok.

define_fibonacci() ->
    %% Define a generator function
    ok = py:exec(<<"
def fibonacci(n):
    a, b = 0, 1
    for _ in range(n):
        yield a
        a, b = b, a + b
">>).

%% The guide's lambda with the walrus operator works as an expression.
-spec inline_lambda(ct_suite:ct_config()) -> ok.
inline_lambda(_Config) ->
    %% Fibonacci using inline lambda - works reliably across workers
    {ok, Fib} = py:stream_eval(<<"(lambda: ((fib := [0, 1]), [fib.append(fib[-1] + fib[-2]) for _ in range(8)], iter(fib))[-1])()">>),
    ?assertEqual([0,1,1,2,3,5,8,13,21,34], Fib).

%% Tokens go to a client one by one, and then the end of the stream.
-spec llm_token_streaming(ct_suite:ct_config()) -> ok.
llm_token_streaming(_Config) ->
    {Prompt, WebSocket} = {<<"streams of tokens">>, self()},
    %% Stream tokens from an LLM
    {ok, Ref} = py:stream_start(llm_client, generate_tokens, [Prompt]),
    stream_to_client(Ref, WebSocket),
    ?assertEqual([<<"streams ">>, <<"of ">>, <<"tokens ">>, <<"[DONE]">>], sent()).

%% The client also gets the failure of a model.
-spec llm_token_streaming_that_fails(ct_suite:ct_config()) -> ok.
llm_token_streaming_that_fails(_Config) ->
    {ok, Ref} = py:stream_start(llm_client, generate_tokens, [<<>>]),
    stream_to_client(Ref, self()),
    ?assertEqual([<<"[ERROR]">>], sent()).

stream_to_client(Ref, WS) ->
    receive
        {py_stream, Ref, {data, Token}} ->
            websocket:send(WS, Token),
            stream_to_client(Ref, WS);
        {py_stream, Ref, done} ->
            websocket:send(WS, <<"[DONE]">>);
        {py_stream, Ref, {error, _}} ->
            websocket:send(WS, <<"[ERROR]">>)
    end.

sent() ->
    receive
        {websocket, Frame} -> [Frame | sent()]
    after 0 -> []
    end.

%% The lines of a file become a list.
-spec data_processing_pipeline(ct_suite:ct_config()) -> ok.
data_processing_pipeline(Config) ->
    Path = filename:join(?config(priv_dir, Config), "data.txt"),
    ok = file:write_file(Path, <<"first\nsecond\n\nlast">>),
    %% Process file lines (if defined in Python)
    {ok, Lines} = py:stream(mymodule, read_lines, [<<"data.txt">>]),

    %% Transform each line
    Results = [process_line(L) || L <- Lines],
    ?assertEqual([<<"FIRST">>, <<"SECOND">>, <<>>, <<"LAST">>], Results).

process_line(Line) ->
    string:uppercase(Line).

%% A generator may hand its data on in batches.
-spec batch_processing(ct_suite:ct_config()) -> ok.
batch_processing(_Config) ->
    %% Process in batches
    ok = py:exec(<<"
def batches(data, size):
    for i in range(0, len(data), size):
        yield data[i:i+size]
">>),
    ?assertEqual(
        {ok, [[1, 2], [3, 4], [5]]}, py:stream('__main__', batches, [[1, 2, 3, 4, 5], 2])
    ).

printed(Fun) ->
    ok = ct:capture_start(),
    try Fun() after ok = ct:capture_stop() end,
    lists:append(ct:capture_get()).
