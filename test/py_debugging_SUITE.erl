%% @doc What one sees of running Python code: stacks, a debugger, profiles.
-module(py_debugging_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_testcase/2, end_per_testcase/2]).
-export([log/2]).
-export([
    stacks_of_busy_workers/1,
    stacks_of_tasks/1,
    stacks_of_a_worker_in_c/1,
    stacks_of_a_stopped_worker/1,
    stacks_are_printed/1,
    a_breakpoint_says_how/1,
    a_breakpoint_waits_at_a_port/1,
    a_breakpoint_is_cancelled/1,
    profiles/1,
    a_profile_that_cannot_be_written/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        stacks_of_busy_workers,
        stacks_of_tasks,
        stacks_of_a_worker_in_c,
        stacks_of_a_stopped_worker,
        stacks_are_printed,
        a_breakpoint_says_how,
        a_breakpoint_waits_at_a_port,
        a_breakpoint_is_cancelled,
        profiles,
        a_profile_that_cannot_be_written
    ].

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    application:load(erlang_python),
    application:set_env(erlang_python, pools, #{}),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}),
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    ok = logger:remove_handler(?MODULE),
    ok = application:stop(erlang_python),
    application:unset_env(erlang_python, pools).

%%% Stacks.

%% A worker answers while each of its threads is busy, and says what each runs for which request.
-spec stacks_of_busy_workers(ct_suite:ct_config()) -> term().
stacks_of_busy_workers(_Config) ->
    start(#{workers => 2, max_threads => 1}),
    ok = exec(
        "import time\n"
        "def sold():\n"
        "    for n in range(1000):\n"
        "        time.sleep(0.05)\n"
        "        yield n\n"
        "def busy():\n"
        "    while True:\n"
        "        pass\n"
    ),
    #{workers := [#{pid := First}, #{pid := Second}]} = py:info(mine),
    {ok, Ref} = py:stream_start('__main__', sold, [], #{pool => First}),
    %% As many as there are threads, and more.
    Calls = [py:spawn_call('__main__', busy, [], #{}, #{pool => First}) || _ <- lists:seq(1, 4)],
    test_eventually:true(fun() ->
        {ok, #{First := Text, Second := Idle} = Stacks} = py:stack_traces(mine),
        ?assertEqual(2, map_size(Stacks)),
        ?assertEqual(nomatch, binary:match(Idle, <<"File">>)),
        has(Text, ["for the stream __main__.sold <erlang.Reference", "in sold", "for the call __main__.busy", "in busy"])
    end),
    {ok, Alone} = py:stack_traces(First),
    ?assertEqual([First], maps:keys(Alone)),
    ok = py:stream_cancel(Ref, [flush]),
    [{error, timeout} = py:await(Call, 0) || Call <- Calls],
    ?assertEqual({error, {no_pool, nowhere}}, py:stack_traces(nowhere)),
    ?assertError({badopt, {pool, {mine, all}}}, py:stack_traces({mine, all})).

%% Tasks with all that they await, those of the user's own, too.
-spec stacks_of_tasks(ct_suite:ct_config()) -> term().
stacks_of_tasks(_Config) ->
    start(#{workers => 1}),
    ok = exec(
        "import asyncio\n"
        "async def inner():\n"
        "    await asyncio.sleep(60)\n"
        "async def outer():\n"
        "    task = asyncio.create_task(inner(), name='by itself')\n"
        "    await inner()\n"
        "async def ticks():\n"
        "    yield 1\n"
        "    await inner()\n"
    ),
    {ok, Ref} = py:stream_start('__main__', ticks, [], #{pool => mine}),
    {ok, 1} = py:stream_next(Ref),
    Call = py:spawn_call('__main__', outer, [], #{}, #{pool => mine}),
    test_eventually:true(fun() ->
        has(text(), ["for the call __main__.outer", "in outer", "in inner", "Task 'by itself'", "for the stream __main__.ticks", "in ticks"])
    end),
    %% The loop that waits is no thread that does anything.
    ?assertEqual(nomatch, binary:match(text(), <<"select">>)),
    {error, timeout} = py:await(Call, 0),
    py:stream_cancel(Ref, [flush]).

%% C code that holds the interpreter lock: a signal finds where it was called.
-spec stacks_of_a_worker_in_c(ct_suite:ct_config()) -> term().
stacks_of_a_worker_in_c(_Config) ->
    start(#{workers => 1}),
    ok = exec(
        "import ctypes\n"
        "def stuck():\n"
        "    ctypes.PyDLL(None).usleep(6_000_000)\n"
        "    return 'done'\n"
    ),
    Call = py:spawn_call('__main__', stuck, [], #{}, #{pool => mine}),
    test_eventually:true(fun() -> has(text(), ["does not answer", "in stuck"]) end),
    %% Twice: each time it is what there is then.
    Again = text(),
    ?assert(has(Again, ["in stuck"])),
    ?assertMatch([_], binary:matches(Again, <<"in stuck">>)),
    %% It goes on as if nothing had been.
    ?assertEqual({ok, <<"done">>}, py:await(Call)),
    ?assertEqual(nomatch, binary:match(text(), <<"does not answer">>)).

-spec stacks_of_a_stopped_worker(ct_suite:ct_config()) -> term().
stacks_of_a_stopped_worker(_Config) ->
    start(#{workers => 1}),
    #{workers := [#{os_pid := OsPid}]} = py:info(mine),
    ok = test_os_process:stop(OsPid),
    %% It has stopped when the system says so, which may be a moment later.
    test_eventually:true(fun() -> has(text(), ["neither a request nor a signal", "process is stopped"]) end),
    "" = os:cmd("kill -CONT " ++ integer_to_list(OsPid)),
    ?assertMatch({ok, 1}, py:eval("1", #{}, #{pool => mine})).

-spec stacks_are_printed(ct_suite:ct_config()) -> term().
stacks_are_printed(_Config) ->
    start(#{workers => 1}),
    #{workers := [#{pid := Pid}]} = py:info(mine),
    ct:capture_start(),
    ok = py:stacks(mine),
    ct:capture_stop(),
    ?assert(has(iolist_to_binary(ct:capture_get([])), ["--- worker " ++ pid_to_list(Pid), "idle"])),
    ?assertEqual({error, {no_pool, nowhere}}, py:stacks(nowhere)).

%%% A debugger.

-spec a_breakpoint_says_how(ct_suite:ct_config()) -> term().
a_breakpoint_says_how(_Config) ->
    start(#{workers => 1}),
    ok = exec("def stops():\n    breakpoint()\n    return 7\n"),
    ?assertEqual({ok, 7}, py:call('__main__', stops, [], #{}, #{pool => mine})),
    ?assert(has(logged(), ["line 2", "PYTHONBREAKPOINT", "erlang.debugger.listen"])).

-spec a_breakpoint_waits_at_a_port(ct_suite:ct_config()) -> term().
a_breakpoint_waits_at_a_port(_Config) ->
    start(#{workers => 1, env => [{"PYTHONBREAKPOINT", "erlang.debugger.listen"}]}),
    ok = exec("def stops(x):\n    breakpoint()\n    x = x * 2\n    return x\n"),
    Call = py:spawn_call('__main__', stops, [21], #{}, #{pool => mine}),
    Socket = connect(),
    ok = gen_tcp:send(Socket, "p x\n"),
    _ = until(Socket, <<"21\n">>),
    ok = gen_tcp:send(Socket, "w\n"),
    _ = until(Socket, <<"stops()">>),
    %% The others of the worker do not wait for it.
    ?assertEqual({ok, 2}, py:eval("1 + 1", #{}, #{pool => mine})),
    ok = gen_tcp:send(Socket, "x = 4\nc\n"),
    ?assertEqual({ok, 8}, py:await(Call)),
    ?assertEqual(closed, until_closed(Socket)),
    %% Whoever hangs up lets it go on.
    Next = py:spawn_call('__main__', stops, [1], #{}, #{pool => mine}),
    ok = gen_tcp:close(connect()),
    ?assertEqual({ok, 2}, py:await(Next)).

%% Nobody comes: the request can be ended.
-spec a_breakpoint_is_cancelled(ct_suite:ct_config()) -> term().
a_breakpoint_is_cancelled(_Config) ->
    start(#{workers => 1, interrupt_after => 0, env => [{"PYTHONBREAKPOINT", "erlang.debugger.listen"}]}),
    ok = exec("def stops():\n    breakpoint()\n"),
    Call = py:spawn_call('__main__', stops, [], #{}, #{pool => mine}),
    _ = logged(),
    {error, timeout} = py:await(Call, 0),
    test_eventually:true(fun() ->
        #{workers := [#{requests := Requests}]} = py:info(mine),
        Requests =:= 0
    end).

connect() ->
    {match, [Port]} = re:run(logged(), "nc 127.0.0.1 ([0-9]+)", [{capture, [1], list}]),
    {ok, Socket} = gen_tcp:connect("127.0.0.1", list_to_integer(Port), [binary, {active, false}]),
    Socket.

until(Socket, Wanted) ->
    until(Socket, Wanted, <<>>).

until(Socket, Wanted, Text) ->
    case binary:match(Text, Wanted) of
        nomatch ->
            {ok, More} = gen_tcp:recv(Socket, 0, 10000),
            until(Socket, Wanted, <<Text/binary, More/binary>>);
        _ ->
            Text
    end.

until_closed(Socket) ->
    case gen_tcp:recv(Socket, 0, 10000) of
        {ok, _} -> until_closed(Socket);
        {error, Reason} -> Reason
    end.

%%% Profiles.

%% Of each kind of request; the result is as without one.
-spec profiles(ct_suite:ct_config()) -> term().
profiles(Config) ->
    start(#{workers => 1}),
    ok = exec(
        "import asyncio, pstats\n"
        "def step(n):\n"
        "    return n + 1\n"
        "def call(n, *, by=0):\n"
        "    return step(n) + by\n"
        "def each(n):\n"
        "    got = yield step(n)\n"
        "    yield step(n)\n"
        "async def acall(n):\n"
        "    await asyncio.sleep(0)\n"
        "    return step(n)\n"
        "async def aeach(n):\n"
        "    yield step(n)\n"
        "    await asyncio.sleep(0)\n"
        "    yield step(n)\n"
        "def fails(n):\n"
        "    step(n)\n"
        "    raise KeyError(n)\n"
        "def names(path):\n"
        "    stats = pstats.Stats(path).stats\n"
        "    return {name: row[0] for (_, _, name), row in stats.items()}\n"
    ),
    File = filename:join(?config(priv_dir, Config), "päth"),
    Opts = #{pool => mine, profile => File},
    Steps = fun() ->
        {ok, Names} = py:call('__main__', names, [unicode:characters_to_binary(File)], #{}, #{pool => mine}),
        ok = file:delete(File),
        maps:get(<<"step">>, Names)
    end,
    ?assertEqual({ok, 5}, py:call('__main__', call, [1], #{by => 3}, Opts)),
    ?assertEqual(1, Steps()),
    ?assertEqual({ok, [2, 2]}, py:stream('__main__', each, [1], #{}, Opts)),
    ?assertEqual(2, Steps()),
    ?assertEqual({ok, 2}, py:await(py:spawn_call('__main__', acall, [1], #{}, Opts))),
    ?assertEqual(1, Steps()),
    ?assertEqual({ok, [2, 2]}, py:stream('__main__', aeach, [1], #{}, Opts)),
    ?assertEqual(2, Steps()),
    ?assertEqual({ok, 3}, py:eval("step(n)", #{n => 2}, Opts)),
    ?assertEqual(1, Steps()),
    ?assertEqual({error, {'KeyError', <<"1">>}}, py:call('__main__', fails, [1], #{}, Opts)),
    ?assertEqual(1, Steps()),
    ?assertEqual(ok, py:exec("step(1)", Opts)),
    ?assertEqual(1, Steps()),
    %% It comes before what the request prints to, and behind its metadata.
    All = Opts#{output => caller, metadata => #{a => 1}},
    ?assertMatch({ok, #{a := 1}}, py:call(erlang, metadata, [], #{}, maps:remove(profile, All))),
    ?assertEqual({ok, 2}, py:call('__main__', step, [1], #{}, All)),
    ?assertEqual(1, Steps()).

-spec a_profile_that_cannot_be_written(ct_suite:ct_config()) -> term().
a_profile_that_cannot_be_written(_Config) ->
    start(#{workers => 1}),
    ?assertMatch(
        {error, {'FileNotFoundError', _}},
        py:call(math, sqrt, [4], #{}, #{pool => mine, profile => "/no/such/folder/file"})
    ).

%%% Helpers.

start(Opts) ->
    {ok, _} = py:start_pool(mine, Opts).

exec(Code) ->
    py:exec(Code, #{pool => mine}).

text() ->
    {ok, Stacks} = py:stack_traces(mine),
    [Text] = maps:values(Stacks),
    Text.

has(Text, Wanted) ->
    lists:all(fun(W) -> binary:match(Text, iolist_to_binary(W)) =/= nomatch end, Wanted).

logged() ->
    receive
        {debugger, Text} -> unicode:characters_to_binary(Text)
    after 10000 -> error(nothing_logged)
    end.

%% Of the handler.
-spec log(logger:log_event(), logger:handler_config()) -> term().
log(#{msg := {string, Text}, meta := #{python_logger := <<"erlang.debugger">>}}, #{config := To}) ->
    To ! {debugger, Text};
log(_Event, _Config) ->
    ok.
