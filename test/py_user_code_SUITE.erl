%% @doc What the user's code finds when it runs in a worker, and what callers learn of it.
-module(py_user_code_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1]).
-export([log/2]).
-export([
    no_arguments/1,
    no_future_imports_of_ours/1,
    source_in_tracebacks/1,
    a_preload_that_fails/1,
    no_current_directory/1,
    names_of_functions/1,
    a_crash_is_logged/1,
    what_cannot_cross/1,
    keyword_arguments/1,
    options_as_lists/1,
    a_timeout_in_place_of_options/1,
    times_that_are_too_long/1,
    a_fold_that_raises/1,
    events_are_for_the_owner/1,
    functions_of_threading_are_replaced/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        no_arguments,
        no_future_imports_of_ours,
        source_in_tracebacks,
        a_preload_that_fails,
        no_current_directory,
        names_of_functions,
        a_crash_is_logged,
        what_cannot_cross,
        keyword_arguments,
        options_as_lists,
        a_timeout_in_place_of_options,
        times_that_are_too_long,
        a_fold_that_raises,
        events_are_for_the_owner,
        functions_of_threading_are_replaced
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    ok = application:set_env(erlang_python, pools, #{default => #{workers => 1}}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

%% As in an embedded interpreter, so that argparse finds nothing to parse.
-spec no_arguments(ct_suite:ct_config()) -> ok.
no_arguments(_Config) ->
    ?assertEqual({ok, [<<>>]}, py:eval(<<"__import__('sys').argv">>)),
    Parsed = py:eval(<<"vars(__import__('argparse').ArgumentParser().parse_args())">>),
    ?assertEqual({ok, #{}}, Parsed).

%% Annotations are evaluated, as in any module without `from __future__ import annotations'.
-spec no_future_imports_of_ours(ct_suite:ct_config()) -> ok.
no_future_imports_of_ours(_Config) ->
    ok = py:exec(<<"def annotated(x: int): pass">>),
    ?assertEqual({ok, true}, py:eval(<<"annotated.__annotations__['x'] is int">>)),
    ?assertEqual({ok, true}, py:eval(<<"(lambda: 0).__code__.co_flags & 0x1000000 == 0">>)),
    %% From Python 3.14 on when somebody asks for them, and always when somebody does.
    ?assertMatch({error, {'NameError', _}}, py:exec(<<"def f(x: no_such_name): pass\nf.__annotations__">>)).

-spec source_in_tracebacks(ct_suite:ct_config()) -> ok.
source_in_tracebacks(_Config) ->
    Opts = #{traceback => true},
    ok = py:exec(<<"def first():\n    return 1 // len('')\n">>),
    ok = py:exec(<<"def second():\n    return first() + 1\n">>),
    {error, {'ZeroDivisionError', _, Traceback}} = py:eval(<<"second() + 2">>, #{}, Opts),
    [?assertNotEqual(nomatch, binary:match(Traceback, Line)) || Line <- [
        <<"second() + 2">>, <<"return first() + 1">>, <<"return 1 // len('')">>
    ]],
    {match, Files} = re:run(Traceback, <<"File \"([^\"]*)\"">>, [global, {capture, [1], binary}]),
    ?assertEqual(3, length(lists:usort(Files))),
    {ok, Source} = py:eval(<<"__import__('inspect').getsource(first)">>),
    ?assertEqual(<<"def first():\n    return 1 // len('')\n">>, Source).

%% The file and the line are in the reason, in its sentence and in the log.
-spec a_preload_that_fails(ct_suite:ct_config()) -> ok.
a_preload_that_fails(Config) ->
    Dir = ?config(priv_dir, Config),
    Module = "def load(): raise ValueError('bad config')\n\nload()\n",
    ok = file:write_file(filename:join(Dir, "bad_settings.py"), Module),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{to => self()}}),
    Start = fun(Preload) ->
        py:start_pool(failing, #{workers => 1, python_path => [Dir], preload => [Preload]})
    end,
    {error, Reason = {cannot_start, Why}} = Start(bad_settings),
    ?assertMatch({_, _}, binary:match(Why, <<"bad_settings.py\", line 3">>)),
    ?assertNotEqual(nomatch, string:find(py:format_error(Reason), "bad_settings.py\", line 3")),
    receive
        {log, <<"a Python worker failed to start: ValueError: bad config\n", Rest/binary>>} ->
            ?assertMatch({_, _}, binary:match(Rest, <<"bad_settings.py\", line 3">>))
    end,
    {error, {cannot_start, Code}} = Start(<<"x = 1\ny = x / 0\n">>),
    ?assertMatch({_, _}, binary:match(Code, <<"\", line 2">>)),
    ?assertMatch({_, _}, binary:match(Code, <<"y = x / 0">>)),
    ok = logger:remove_handler(?MODULE).

%% Neither by the modules of the standard library nor by ours is anything found there.
-spec no_current_directory(ct_suite:ct_config()) -> ok.
no_current_directory(Config) ->
    Cwd = filename:join(?config(priv_dir, Config), "cwd"),
    Path = filename:join(?config(priv_dir, Config), "path"),
    [
        begin
            File = filename:join(Cwd, Name),
            ok = filelib:ensure_dir(File),
            ok = file:write_file(File, "raise SystemExit('found in the current directory')")
        end
     || Name <- ["queue.py", "json.py", "types.py", "only_here.py", "erlang/__init__.py", "erlang_port/__init__.py"]
    ],
    ok = filelib:ensure_dir(filename:join(Path, "x")),
    ok = file:write_file(filename:join(Path, "helpers.py"), "here = __file__"),
    ok = file:write_file(filename:join(Cwd, "helpers.py"), "here = __file__"),
    Opts = #{cd => Cwd, python_path => [Path], env => [{"PYTHONPATH", ":/inherited:"}], preload => [json, queue, helpers]},
    {ok, Worker} = py:start_worker(Opts),
    Eval = fun(Code) -> py:eval(Code, #{}, #{pool => Worker}) end,
    ?assertEqual({ok, list_to_binary(filename:join(Path, "helpers.py"))}, Eval("__import__('helpers').here")),
    {ok, [First | SysPath]} = Eval("__import__('sys').path"),
    ?assertEqual(list_to_binary(Path), First),
    ?assert(lists:member(<<"/inherited">>, SysPath)),
    [?assertNot(lists:member(Dir, SysPath)) || Dir <- [<<>>, <<".">>, list_to_binary(Cwd)]],
    ?assertMatch({error, {'ModuleNotFoundError', _}}, Eval("__import__('only_here')")),
    ?assertEqual({ok, true}, Eval("'send' in dir(__import__('erlang'))")),
    ok = py:stop_worker(Worker).

%% What is not registered is not there, on a thread and on the event loop.
-spec names_of_functions(ct_suite:ct_config()) -> ok.
names_of_functions(_Config) ->
    ok = py:register_function(price, fun([N]) -> 2 * N end),
    {error, {'ImportError', Why}} = py:exec("from erlang import Typo"),
    ?assertMatch({_, _}, binary:match(Why, <<"erlang.call(\"Typo\", ...)">>)),
    ?assertMatch({error, {'AttributeError', _}}, py:eval("__import__('erlang').typo(1)")),
    ok = py:exec("
import erlang
from erlang import price
async def on_the_loop():
    return hasattr(erlang, 'typo'), hasattr(erlang, 'price')
"),
    ?assertEqual({ok, 14}, py:eval("price(7)")),
    ?assertEqual({ok, 14}, py:eval("erlang.price(7)")),
    ?assertEqual({ok, {false, true}}, py:eval("(hasattr(erlang, 'typo'), hasattr(erlang, 'price'))")),
    ?assertEqual({ok, {false, true}}, py:call('__main__', on_the_loop, [])),
    ok = py:unregister_function(price).

%% What Python was doing when a signal of the kernel ended it.
-spec a_crash_is_logged(ct_suite:ct_config()) -> ok.
a_crash_is_logged(_Config) ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{to => self()}}),
    {ok, {Worker, Monitor}} = py:start_worker(#{}, monitor),
    Opts = #{pool => Worker},
    ok = py:exec("import ctypes\ndef crash():\n    ctypes.string_at(0)\n", Opts),
    ?assertEqual({error, {worker_exit, {signal, 11}}}, py:call('__main__', crash, [], #{}, Opts)),
    receive
        {'DOWN', Monitor, process, Worker, _} -> ok
    end,
    receive
        {log, <<"a Python worker crashed:\n", Text/binary>>} ->
            ?assertMatch({_, _}, binary:match(Text, <<"Fatal Python error: Segmentation fault\n">>)),
            ?assertMatch({_, _}, binary:match(Text, <<", line 3 in crash\n">>))
    end,
    ok = logger:remove_handler(?MODULE).

%% The message says what to do instead.
-spec what_cannot_cross(ct_suite:ct_config()) -> ok.
what_cannot_cross(_Config) ->
    ok = py:exec("async def coroutine(): pass\nasync def rows():\n    yield 1\n"),
    [
        begin
            {error, {Class, Why}} = py:eval(Code),
            ?assertMatch({_, Class, {_, _}}, {Code, Error, binary:match(Why, Advice)})
        end
     || {Code, Error, Advice} <- [
            {"[coroutine()]", 'TypeError', <<"await it first">>},
            {"[n for n in [1]], (n for n in [1])", 'TypeError', <<"make a list of it">>},
            {"{'rows': rows()}", 'TypeError', <<"make a list of it">>},
            {"open('/dev/null')", 'TypeError', <<"send its path">>},
            {"__import__('json')", 'TypeError', <<"send its name">>},
            {"object()", 'TypeError', <<"__erlang__()">>},
            {"__import__('erlang').run(coroutine())", 'AttributeError', <<"py:call awaits">>}
        ]
    ],
    ok.

%% Their names are atoms, binaries or strings, in a map or a list of pairs.
-spec keyword_arguments(ct_suite:ct_config()) -> ok.
keyword_arguments(_Config) ->
    Expected = {ok, <<"[\n  1\n]">>},
    [
        begin
            ?assertEqual(Expected, py:call(json, dumps, [[1]], Kwargs)),
            ?assertEqual(Expected, py:await(py:spawn_call(json, dumps, [[1]], Kwargs))),
            {ok, Ref} = py:stream_start(json, dumps, [[1]], #{kwargs => Kwargs}),
            Append = fun(Char, Text) -> {cont, <<Text/binary, Char/binary>>} end,
            ?assertEqual(Expected, py:stream_fold(Append, <<>>, Ref)),
            ?assertEqual({ok, 2}, py:eval(<<"indent">>, Kwargs)),
            ?assertEqual({ok, [0, 1]}, py:stream_eval(<<"range(indent)">>, Kwargs))
        end
     || Key <- [indent, <<"indent">>, "indent"], Kwargs <- [#{Key => 2}, [{Key, 2}]]
    ],
    ?assertEqual({ok, #{<<"a-b">> => 1}}, py:call(builtins, dict, [], #{"a-b" => 1})),
    [
        ?assertError({badopt, {kwargs, Kwargs}}, py:call(builtins, dict, [], Kwargs))
     || Kwargs <- [#{1 => 2}, [{a, 1}, {<<"a">>, 2}], [a], #{<<255>> => 1}, none]
    ],
    Refused = #{kwargs => #{a => 1}},
    [
        ?assertError({badopt, {kwargs, _}}, F())
     || F <- [
            fun() -> py:call(builtins, dict, [], #{}, Refused) end,
            fun() -> py:cast(builtins, dict, [], #{}, Refused) end,
            fun() -> py:spawn_call(builtins, dict, [], #{}, Refused) end,
            fun() -> py:eval("1", #{}, Refused) end,
            fun() -> py:exec("1", Refused) end,
            fun() -> py:stream(builtins, dict, [], #{}, Refused) end,
            fun() -> py:stream_eval("[]", #{}, Refused) end
        ]
    ],
    ok.

-spec options_as_lists(ct_suite:ct_config()) -> ok.
options_as_lists(_Config) ->
    ?assertEqual({ok, 2.0}, py:call(math, sqrt, [4], [], [{timeout, 5000}])),
    ?assertEqual({ok, [0, 1]}, py:stream(builtins, range, [9], [], [{take, 2}, {take, 3}])),
    ?assertEqual(ok, py:exec("1", [{replay, false}])),
    ?assertError({badopt, {colour, red}}, py:call(math, sqrt, [4], #{}, [{colour, red}])),
    {ok, Worker} = py:start_worker([{preload, [json]}]),
    ?assertEqual({ok, 1}, py:eval("1", [], [{pool, Worker}])),
    {ok, Ref} = py:stream_start(builtins, range, [1], [{pool, Worker}, {kwargs, []}]),
    ?assertEqual({ok, 0}, py:stream_next(Ref)),
    ?assertEqual(done, py:stream_next(Ref)),
    ok = py:stop_worker(Worker).

-spec a_timeout_in_place_of_options(ct_suite:ct_config()) -> ok.
a_timeout_in_place_of_options(_Config) ->
    ?assertEqual({ok, [0, 1]}, py:stream_eval("range(2)", #{}, 5000)),
    ?assertEqual({ok, [0, 1]}, py:stream(builtins, range, [2], #{}, infinity)),
    ?assertEqual({error, timeout}, py:stream_eval("__import__('time').sleep(5)", #{}, 50)),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{to => self()}}),
    ok = py:cast(time, sleep, [5], #{}, 50),
    receive
        {report, #{reason := Reason}} -> ?assertEqual(py:format_error(timeout), lists:flatten(Reason))
    end,
    ok = logger:remove_handler(?MODULE).

%% No timer takes them, so they are refused, and the pool goes on.
-spec times_that_are_too_long(ct_suite:ct_config()) -> ok.
times_that_are_too_long(_Config) ->
    Long = 16#100000000,
    [
        ?assertError({badopt, {timeout, Long}}, F(Long))
     || F <- [
            fun(T) -> py:exec("1", #{timeout => T}) end,
            fun(T) -> py:eval("1", #{}, T) end,
            fun(T) -> py:call(math, sqrt, [4], #{}, T) end,
            fun(T) -> py:cast(math, sqrt, [4], #{}, T) end,
            fun(T) -> py:spawn_call(math, sqrt, [4], #{}, T) end,
            fun(T) -> py:stream_start(builtins, range, [1], #{timeout => T}) end,
            fun(T) -> py:stream_next(make_ref(), T) end,
            fun(T) -> py:await(make_ref(), T) end
        ]
    ],
    ?assertEqual(ok, py:exec("1", #{timeout => Long - 1})),
    ?assertEqual(ok, py:exec("1")).

%% The exception goes on when the stream has ended and its events are gone.
-spec a_fold_that_raises(ct_suite:ct_config()) -> ok.
a_fold_that_raises(_Config) ->
    [
        begin
            {ok, Ref} = py:stream_start(itertools, count, [], Opts),
            ?assertException(Class, bad_row, py:stream_fold(fun(_, _) -> erlang:Class(bad_row) end, 0, Ref)),
            ?assertEqual({messages, []}, process_info(self(), messages)),
            ?assertEqual(none, py_streams:owner(Ref))
        end
     || Class <- [error, exit, throw], Opts <- [#{}, #{batch => 10}]
    ],
    {ok, Wrong} = py:stream_start(itertools, count, []),
    ?assertError({bad_return_value, 0}, py:stream_fold(fun(N, _) -> N end, 0, Wrong)),
    ?assertEqual({messages, []}, process_info(self(), messages)),
    test_leftovers:none().

-spec events_are_for_the_owner(ct_suite:ct_config()) -> ok.
events_are_for_the_owner(_Config) ->
    {ok, Ref} = py:stream_start(itertools, count, []),
    Other = fun(F) ->
        {_, Monitor} = spawn_monitor(fun() -> exit({result, try F() catch _:Reason -> {raised, Reason} end}) end),
        receive
            {'DOWN', Monitor, process, _, {result, Result}} -> Result
        end
    end,
    [
        ?assertMatch({raised, {not_owner, Ref}}, Other(F))
     || F <- [
            fun() -> py:stream_next(Ref) end,
            fun() -> py:stream_next(Ref, 0) end,
            fun() -> py:stream_fold(fun(_, Acc) -> {cont, Acc} end, 0, Ref) end
        ]
    ],
    ?assertEqual({ok, 0}, py:stream_next(Ref)),
    ok = py:stream_cancel(Ref, [flush]),
    %% A stream that has ended and whose events wait.
    {ok, Ended} = py:stream_start(builtins, range, [3]),
    test_eventually:equal(none, fun() -> py_streams:owner(Ended) end),
    ?assertEqual({ok, 3}, py:stream_fold(fun(N, Acc) -> {cont, Acc + N} end, 0, Ended)).

%% @private The handler of the log.
-spec log(logger:log_event(), logger:handler_config()) -> ok.
log(#{msg := {Format, Args}}, #{config := #{to := Pid}}) when is_list(Args) ->
    Pid ! {log, unicode:characters_to_binary(io_lib:format(Format, Args))},
    ok;
log(#{msg := {report, Report}}, #{config := #{to := Pid}}) ->
    Pid ! {report, Report},
    ok;
log(_Event, _Config) ->
    ok.

%% What gevent does, for one: code that was loaded before has the functions that it had.
-spec functions_of_threading_are_replaced(ct_suite:ct_config()) -> ok.
functions_of_threading_are_replaced(_Config) ->
    Preload = [
        "import select, threading, time\n"
        "real = threading.Lock\n"
        "class Own:\n"
        "    def __init__(self): self.lock, self.holder = real(), None\n"
        "    def acquire(self, *args, **kwargs):\n"
        "        if self.lock.acquire(*args, **kwargs): self.holder = threading.get_ident(); return True\n"
        "        return False\n"
        "    def release(self):\n"
        "        if self.holder != threading.get_ident(): raise RuntimeError('not the holder')\n"
        "        self.lock.release()\n"
        "    def locked(self): return self.lock.locked()\n"
        "    def __enter__(self): return self.acquire()\n"
        "    def __exit__(self, *_): self.release()\n"
        "def refuse(*_, **__): raise RuntimeError('replaced')\n"
        "threading.Lock = threading._allocate_lock = Own\n"
        "threading._start_new_thread = threading.Thread.start = refuse\n"
        "threading.local = select.poll = select.epoll = time.sleep = refuse\n"
    ],
    {ok, _} = py:start_pool(replaced, #{workers => 1, preload => Preload}),
    Opts = #{pool => replaced},
    Calls = [py:spawn_call(builtins, sum, [lists:seq(1, N)], #{}, Opts) || N <- lists:seq(1, 30)],
    ?assertEqual([{ok, N * (N + 1) div 2} || N <- lists:seq(1, 30)], [py:await(Call) || Call <- Calls]),
    Streams = [
        begin
            {ok, Ref} = py:stream_start(builtins, range, [3000], Opts#{window => 10}),
            Ref
        end
     || _ <- lists:seq(1, 10)
    ],
    [
        ?assertEqual({ok, 3000}, py:stream_fold(fun(_, N) -> {cont, N + 1} end, 0, Ref))
     || Ref <- Streams
    ],
    ok = py:stop_pool(replaced).
