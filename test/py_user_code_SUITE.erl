%% @doc What the user's code finds when it runs in a worker, and what callers are told of it.
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
    a_preload_that_fails/1
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
        a_preload_that_fails
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
    ?assertMatch({error, {'NameError', _}}, py:exec(<<"def f(x: no_such_name): pass">>)).

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

%% @private The handler of the log.
-spec log(logger:log_event(), logger:handler_config()) -> ok.
log(#{msg := {Format, Args}}, #{config := #{to := Pid}}) when is_list(Args) ->
    Pid ! {log, unicode:characters_to_binary(io_lib:format(Format, Args))},
    ok;
log(_Event, _Config) ->
    ok.
