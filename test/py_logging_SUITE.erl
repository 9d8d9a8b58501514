%% @doc What goes along with a request: its metadata in Python, its trace, and where a log record is from.
-module(py_logging_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([
    metadata_is_there_in_python/1,
    a_trace_is_continued/1,
    log_records_say_where_they_are_from/1,
    the_way_to_the_log_stays/1,
    logging_is_imported_late/1,
    a_failed_cast_is_named/1
]).
%% Of the handler.
-export([log/2]).

-import(test_files, [folder/2, write/3]).
-import(test_mine, [eval/1, exec/1]).

-define(TRACE, <<"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01">>).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        metadata_is_there_in_python,
        a_trace_is_continued,
        log_records_say_where_they_are_from,
        the_way_to_the_log_stays,
        logging_is_imported_late,
        a_failed_cast_is_named
    ].

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    ok = test_mine:start_application(),
    process_flag(trap_exit, true),
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    _ = logger:remove_handler(?MODULE),
    test_mine:stop_application().

-spec metadata_is_there_in_python(ct_suite:ct_config()) -> term().
metadata_is_there_in_python(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    ok = exec(
        "import erlang, asyncio\n"
        "def now(*args, **kwargs): return erlang.metadata()\n"
        "async def later(*args):\n"
        "    await asyncio.sleep(0)\n"
        "    return await asyncio.to_thread(erlang.metadata)\n"
        "def each():\n"
        "    yield erlang.metadata()\n"
        "async def aeach():\n"
        "    await asyncio.sleep(0)\n"
        "    yield erlang.metadata()\n"
        "def echo(*args, **kwargs): return [args, kwargs]\n"
    ),
    #{workers := [#{pid := Worker}]} = py:info(mine),
    Opts = #{pool => mine, metadata => #{traceparent => ?TRACE, <<"n">> => 1}},
    Check = fun(Function, Metadata) ->
        ?assertMatch(
            #{
                <<"traceparent">> := ?TRACE,
                <<"n">> := 1,
                <<"pool">> := mine,
                <<"worker">> := Worker,
                <<"request">> := #{<<"module">> := <<"__main__">>, <<"function">> := Function, <<"reference">> := Ref}
            } when is_reference(Ref),
            maps:from_list([{if is_atom(K) -> atom_to_binary(K); true -> K end, V} || {K, V} <- maps:to_list(Metadata)])
        )
    end,
    {ok, Now} = py:call('__main__', now, [1, <<"a">>], #{k => 1}, Opts),
    Check(<<"now">>, Now),
    {ok, Later} = py:call('__main__', later, [], #{}, Opts),
    Check(<<"later">>, Later),
    {ok, [Each]} = py:stream('__main__', each, [], #{}, Opts),
    Check(<<"each">>, Each),
    {ok, [AEach]} = py:stream('__main__', aeach, [], #{}, Opts),
    Check(<<"aeach">>, AEach),
    {ok, Spawned} = py:await(py:spawn_call('__main__', now, [], #{}, Opts)),
    Check(<<"now">>, Spawned),
    {ok, Evaluated} = py:eval("erlang.metadata()", #{}, Opts),
    Check(<<"erlang.metadata()">>, Evaluated),
    {ok, Ref} = py:stream_start('__main__', each, [], Opts),
    {ok, Started} = py:stream_next(Ref),
    #{<<"reference">> := Ref} = maps:get(<<"request">>, Started),
    %% Arguments are as ever, and without the option there is none.
    {ok, [{1, <<"a">>, [2]}, #{<<"k">> := #{x := 1}}]} =
        py:call('__main__', echo, [1, <<"a">>, [2]], #{k => #{x => 1}}, Opts#{binaries => str}),
    {ok, Without} = py:call('__main__', now, [], #{}, #{pool => mine}),
    ?assertEqual([<<"pool">>, <<"request">>, <<"worker">>], lists:sort(maps:keys(Without))),
    ?assertError({badopt, {metadata, none}}, py:call('__main__', now, [], #{}, #{pool => mine, metadata => none})).

%% With opentelemetry installed, here a stand-in for it, the trace is current in the request.
-spec a_trace_is_continued(ct_suite:ct_config()) -> term().
a_trace_is_continued(Config) ->
    Dir = folder(Config, "traces"),
    ok = filelib:ensure_path(filename:join(Dir, "opentelemetry")),
    write(Dir, "opentelemetry/__init__.py", ""),
    write(Dir, "opentelemetry/propagate.py", "def extract(carrier): return dict(carrier)"),
    write(
        Dir,
        "opentelemetry/context.py",
        "from contextvars import ContextVar\ncurrent = ContextVar('trace', default=None)\n"
        "def attach(context): return current.set(context)\n"
        "def get(): return current.get()\n"
    ),
    {ok, _} = py:start_pool(mine, #{workers => 1, python_path => [Dir]}),
    Opts = #{pool => mine, metadata => #{traceparent => ?TRACE}},
    ?assertEqual({ok, #{<<"traceparent">> => ?TRACE}}, py:call('opentelemetry.context', get, [], #{}, Opts)),
    ?assertEqual({ok, none}, py:call('opentelemetry.context', get, [], #{}, #{pool => mine})),
    %% Where it is not installed nothing happens.
    {ok, _} = py:start_pool(other, #{workers => 1}),
    ?assertEqual({ok, 2.0}, py:call(math, sqrt, [4], #{}, Opts#{pool => other})).

-spec log_records_say_where_they_are_from(ct_suite:ct_config()) -> term().
log_records_say_where_they_are_from(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    ok = exec(
        "import logging\n"
        "def warn():\n"
        "    logging.getLogger('shop').warning('sold %d', 3, extra={'level': 7, 'order': {'a': [1]}, 'odd': object()})\n"
        "def warn_each():\n"
        "    warn()\n"
        "    yield 1\n"
    ),
    #{workers := [#{pid := Worker, os_pid := OsPid}]} = py:info(mine),
    listen(),
    {ok, none} = py:call('__main__', warn, [], #{}, #{pool => mine, metadata => #{traceparent => ?TRACE}}),
    #{meta := Meta} = logged(fun(#{msg := Msg}) -> Msg =:= {string, <<"sold 3">>} end),
    ?assertMatch(
        #{
            pool := mine,
            worker := Worker,
            os_pid := OsPid,
            request := #{module := <<"__main__">>, function := <<"warn">>, reference := Ref},
            metadata := #{traceparent := ?TRACE},
            order := #{<<"a">> := [1]},
            odd := <<"<object ", _/binary>>,
            level := 7,
            python_logger := <<"shop">>,
            domain := [erlang_python, python]
        } when is_reference(Ref),
        maps:merge(Meta, maps:from_list([{binary_to_atom(K), V} || {K, V} <- maps:to_list(Meta), is_binary(K)]))
    ),
    {ok, [1]} = py:stream('__main__', warn_each, [], #{}, #{pool => mine}),
    #{meta := InStream} = logged(fun(#{msg := Msg}) -> Msg =:= {string, <<"sold 3">>} end),
    ?assertMatch(#{request := #{function := <<"warn_each">>, reference := _}}, InStream),
    %% So do ours, which other loggers print as sentences.
    test_os_process:signal(OsPid, "KILL"),
    #{meta := Ours, msg := {report, Report}} = logged(fun(#{msg := Msg}) ->
        is_report(Msg, "a Python worker ended and is restarted")
    end),
    ?assertMatch(#{pool := mine, worker := Worker, os_pid := OsPid, domain := [erlang_python], report_cb := _}, Ours),
    {Format, Args} = (maps:get(report_cb, Ours))(Report),
    ?assertEqual(
        "a Python worker ended and is restarted (pool: mine, status: {signal,9})",
        lists:flatten(io_lib:format(Format, Args))
    ).

%% What configures logging anew does not take the way to the node away.
-spec the_way_to_the_log_stays(ct_suite:ct_config()) -> term().
the_way_to_the_log_stays(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    listen(),
    [
        begin
            ok = py:exec(["import logging, logging.config\n", Code, "\nlogging.warning('still here')"], #{pool => mine}),
            _ = logged(fun(#{msg := Msg}) -> Msg =:= {string, <<"still here">>} end)
        end
     || Code <- [
            "logging.basicConfig(force=True)",
            "logging.config.dictConfig({'version': 1, 'root': {'level': 'INFO', 'handlers': []}})"
        ]
    ].

%% The node gets records from when `logging' is there, from its level on; and the module is as it is otherwise.
-spec logging_is_imported_late(ct_suite:ct_config()) -> term().
logging_is_imported_late(_Config) ->
    Finders = "[type(f).__module__ for f in __import__('sys').meta_path].count('erlang_port.node.logs')",
    Loader = "type(__import__('sys').modules['logging'].__spec__.loader).__module__",
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    ?assertEqual({ok, 1}, eval(Finders)),
    listen(),
    {ok, none} = py:call(logging, info, [<<"too low">>], #{}, #{pool => mine}),
    {ok, none} = py:call(logging, warning, [<<"late">>], #{}, #{pool => mine}),
    #{level := warning} = logged(fun(#{msg := {string, Text}}) -> ?assertEqual(<<"late">>, Text) =:= ok; (_) -> false end),
    ?assertEqual({ok, 0}, eval(Finders)),
    ?assertNotMatch({ok, <<"erlang_port", _/binary>>}, eval(Loader)),
    %% A node that wants to see failures has them from the first one.
    #{level := Level} = logger:get_primary_config(),
    Levels = "[h.level for h in getattr(getattr(__import__('sys').modules.get('logging'), 'root', None), 'handlers', ())]",
    {ok, _} = py:start_pool(other, #{workers => 1}),
    ?assertEqual({ok, []}, py:eval(Levels, #{}, #{pool => other})),
    ok = logger:set_primary_config(level, debug),
    try
        test_eventually:equal({ok, [10]}, fun() -> py:eval(Levels, #{}, #{pool => other}) end),
        {error, _} = py:call(math, sqrt, [-1], #{}, #{pool => other}),
        _ = logged(fun(#{msg := {string, <<"a request failed", _/binary>>}}) -> true; (_) -> false end)
    after
        ok = logger:set_primary_config(level, Level)
    end.

-spec a_failed_cast_is_named(ct_suite:ct_config()) -> term().
a_failed_cast_is_named(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    listen(),
    ok = py:cast(math, sqrt, [-1], #{}, #{pool => mine}),
    #{workers := [#{pid := Worker, os_pid := OsPid}]} = py:info(mine),
    #{msg := {report, Report}, meta := Meta} = logged(fun(#{msg := Msg}) -> is_report(Msg, "a py:cast failed") end),
    ?assertMatch(#{module := <<"math">>, function := <<"sqrt">>, pool := mine}, Report),
    ?assertMatch(
        #{
            pool := mine, worker := Worker, os_pid := OsPid,
            request := #{module := <<"math">>, function := <<"sqrt">>, reference := _}
        },
        Meta
    ),
    ok = py:cast(math, sqrt, [-1], #{}, #{pool => nowhere}),
    #{msg := {report, Nowhere}} = logged(fun(#{msg := Msg}) -> is_report(Msg, "a py:cast failed") end),
    ?assertMatch(#{module := math, function := sqrt, pool := nowhere}, Nowhere).

%%% Helpers.

listen() ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}).

%% Of the handler.
-spec log(logger:log_event(), logger:handler_config()) -> term().
log(Event, #{config := To}) ->
    To ! {logged, Event}.

logged(Is) ->
    receive
        {logged, Event} ->
            case Is(Event) of
                true -> Event;
                false -> logged(Is)
            end
    end.

is_report({report, #{text := Text}}, Wanted) -> Text =:= Wanted;
is_report(_, _) -> false.
