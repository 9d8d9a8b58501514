%% @doc What goes wrong has one documented answer, and the worker that it went wrong in
%% takes the next request.
-module(py_error_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").
-import(test_stream_events, [all_values/1]).

-export([all/0, groups/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([init_per_testcase/2, end_per_testcase/2]).
-export([
    unknown_module/1,
    unknown_function/1,
    not_callable/1,
    wrong_arguments/1,
    not_iterable/1,
    exception_before_the_first_value/1,
    exception_in_the_middle/1,
    any_base_exception/1,
    exit_inside_a_generator/1,
    value_that_cannot_be_sent/1,
    traceback/1,
    traceback_without_files/1,
    class_that_no_node_knows/1,
    message_that_is_not_ascii/1,
    message_that_fails/1,
    syntax_error/1,
    name_error/1,
    argument_that_is_no_text/1,
    no_such_pool/1,
    bad_name/1,
    bad_option/1,
    bad_pool_option/1,
    bad_code/1,
    options_of_a_stream_that_is_collected/1,
    the_page_lists_every_reason/1,
    sentences/1
]).

-define(LONG, 10000).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [{group, atom()} | atom()].
all() ->
    [
        {group, sync},
        {group, async},
        unknown_module,
        unknown_function,
        not_callable,
        wrong_arguments,
        traceback_without_files,
        class_that_no_node_knows,
        message_that_is_not_ascii,
        message_that_fails,
        syntax_error,
        name_error,
        argument_that_is_no_text,
        no_such_pool,
        bad_name,
        bad_option,
        bad_pool_option,
        bad_code,
        options_of_a_stream_that_is_collected,
        the_page_lists_every_reason,
        sentences
    ].

-spec groups() -> [{atom(), [atom()], [atom()]}].
groups() ->
    InGenerators = [
        not_iterable,
        exception_before_the_first_value,
        exception_in_the_middle,
        any_base_exception,
        exit_inside_a_generator,
        value_that_cannot_be_sent,
        traceback
    ],
    [{sync, [], InGenerators}, {async, [], InGenerators}].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    Pool = #{workers => 1, python_path => [?config(data_dir, Config)]},
    ok = application:set_env(erlang_python, pools, #{default => Pool}),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

-spec init_per_group(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_group(sync, Config) -> [{prefix, ""} | Config];
init_per_group(async, Config) -> [{prefix, "async_"} | Config].

-spec end_per_group(atom(), ct_suite:ct_config()) -> ok.
end_per_group(_Group, _Config) ->
    ok.

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    [{os_pid, os_pid()} | Config].

%% The worker is the one that it was, has no request left and works.
-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok | {fail, term()}.
end_per_testcase(_Case, Config) ->
    try
        test_leftovers:none(),
        ?assertEqual(?config(os_pid, Config), os_pid()),
        ?assertEqual({ok, [0, 1]}, py:stream(builtins, range, [2])),
        ok
    catch
        error:Reason -> {fail, Reason}
    end.

os_pid() ->
    {ok, Pid} = py:call(os, getpid, []),
    Pid.

%%% What a name leads to.

%% A module that is not there is a ModuleNotFoundError, however it is asked for.
-spec unknown_module(ct_suite:ct_config()) -> ok.
unknown_module(_Config) ->
    Message = <<"No module named 'no_such_module'">>,
    everywhere(no_such_module, f, [], {'ModuleNotFoundError', Message}).

%% A function that the module does not have is an AttributeError.
-spec unknown_function(ct_suite:ct_config()) -> ok.
unknown_function(_Config) ->
    Message = <<"module 'failing' has no attribute 'nothing'">>,
    everywhere(failing, nothing, [], {'AttributeError', Message}),
    everywhere(failing, <<"number.nothing">>, [], {'AttributeError', '_'}).

%% What is there and no function is a TypeError.
-spec not_callable(ct_suite:ct_config()) -> ok.
not_callable(_Config) ->
    everywhere(failing, not_callable, [], {'TypeError', '_'}).

%% Too few, too many and unknown arguments are a TypeError.
-spec wrong_arguments(ct_suite:ct_config()) -> ok.
wrong_arguments(_Config) ->
    everywhere(failing, takes_two, [], {'TypeError', '_'}),
    everywhere(failing, takes_two, [1, 2, 3], {'TypeError', '_'}),
    {error, {'TypeError', Message}} = py:stream(failing, takes_two, [1], #{third => 3}),
    ?assertNotEqual(nomatch, string:find(Message, "third")).

%% The same answer as events, as a collected stream and as a call.
everywhere(Module, Function, Args, Expected) ->
    {ok, Ref} = py:stream_start(Module, Function, Args),
    expect(Expected, all_values(Ref)),
    {error, Collected} = py:stream(Module, Function, Args),
    expect(Expected, {[], {error, Collected}}),
    {error, Called} = py:call(Module, Function, Args),
    expect(Expected, {[], {error, Called}}).

expect({Class, '_'}, {Values, Terminal}) ->
    ?assertMatch({[], {error, {Class, <<_, _/binary>>}}}, {Values, Terminal});
expect(Expected, Events) ->
    ?assertEqual({[], {error, Expected}}, Events).

%%% What a generator does.

%% A result that cannot be iterated is a TypeError, for a coroutine's result, too.
-spec not_iterable(ct_suite:ct_config()) -> ok.
not_iterable(Config) ->
    Reason = {'TypeError', <<"'int' object is not iterable">>},
    {ok, Ref} = start_stream(number, [], Config),
    ?assertEqual({[], {error, Reason}}, all_values(Ref)),
    ?assertEqual({error, Reason}, py:stream(failing, name(number, Config), [])),
    ?assertEqual({error, Reason}, py:stream_eval("42")).

%% A function that raises in place of giving an iterator.
-spec exception_before_the_first_value(ct_suite:ct_config()) -> ok.
exception_before_the_first_value(Config) ->
    Reason = {'ValueError', <<"at once">>},
    {ok, Ref} = start_stream(before, [], Config),
    ?assertEqual({[], {error, Reason}}, all_values(Ref)),
    ?assertEqual({error, Reason}, py:stream(failing, name(before, Config), [])),
    {ok, First} = start_stream(raising, [<<"ZeroDivisionError">>, 0], Config),
    ?assertMatch({[], {error, {'ZeroDivisionError', _}}}, all_values(First)).

%% Values come, then the exception.
-spec exception_in_the_middle(ct_suite:ct_config()) -> ok.
exception_in_the_middle(Config) ->
    [
        begin
            {ok, Ref} = start_stream(raising, [<<"LookupError">>, N], Config),
            ?assertEqual({lists:seq(0, N - 1), {error, {'LookupError', <<>>}}}, all_values(Ref)),
            Collected = py:stream(failing, name(raising, Config), [<<"LookupError">>, N]),
            ?assertEqual({error, {'LookupError', <<>>}}, Collected)
        end
     || N <- [1, 2, 100, 3000]
    ],
    ok.

%% Exceptions that are no errors end a stream, and not the worker: those by which Python
%% leaves, by which it is interrupted, and by which generators and tasks are ended.
-spec any_base_exception(ct_suite:ct_config()) -> ok.
any_base_exception(Config) ->
    Names = [
        'BaseException',
        'SystemExit',
        'KeyboardInterrupt',
        'GeneratorExit',
        'MemoryError',
        'RecursionError'
    ],
    [
        begin
            {ok, Ref} = start_stream(raising, [atom_to_binary(Name), N], Config),
            ?assertEqual({lists:seq(0, N - 1), {error, {Name, <<>>}}}, all_values(Ref))
        end
     || Name <- Names, N <- [0, 1, 100]
    ],
    %% In a generator these two become a RuntimeError (PEP 479).
    [
        begin
            {ok, Ref} = start_stream(raising, [Name, 3], Config),
            ?assertMatch({[0, 1, 2], {error, {'RuntimeError', _}}}, all_values(Ref))
        end
     || Name <- [stop_of(Config)]
    ],
    ok.

stop_of(Config) ->
    case ?config(prefix, Config) of
        "" -> <<"StopIteration">>;
        "async_" -> <<"StopAsyncIteration">>
    end.

%% `sys.exit()' in a generator is its error, with the status as the message.
-spec exit_inside_a_generator(ct_suite:ct_config()) -> ok.
exit_inside_a_generator(Config) ->
    [
        begin
            {ok, Ref} = start_stream(exiting, [N, 3], Config),
            ?assertEqual({lists:seq(0, N - 1), {error, {'SystemExit', <<"3">>}}}, all_values(Ref))
        end
     || N <- [0, 1, 500]
    ],
    ok.

%% A value that Erlang has no type for is the stream's error, after the values before it.
-spec value_that_cannot_be_sent(ct_suite:ct_config()) -> ok.
value_that_cannot_be_sent(Config) ->
    [
        begin
            {ok, Ref} = start_stream(unsendable, [N], Opts, Config),
            {Values, {error, {Class, Message}}} = all_values(Ref),
            ?assertEqual({N, 'TypeError'}, {length(Values), Class}),
            ?assertNotEqual(nomatch, string:find(Message, "function"))
        end
     || N <- [0, 1, 100], Opts <- [#{}, #{format => json}, #{format => msgpack}, #{batch => 5}]
    ],
    ok.

%% What an error needs is imported by the first one, which cannot be where no file can be opened.
-spec traceback_without_files(ct_suite:ct_config()) -> ok.
traceback_without_files(Config) ->
    {ok, Worker} = py:start_worker(#{python_path => [?config(data_dir, Config)]}),
    Opts = #{pool => Worker, traceback => true},
    {error, {Class, Message, Trace}} = py:call(failing, without_files, [], #{}, Opts),
    ?assertEqual({'OSError', <<"none is left">>, <<"OSError: none is left\n">>}, {Class, Message, Trace}),
    {error, {'OSError', <<"none is left">>, Longer}} = py:call(failing, with_files, [], #{}, Opts),
    ?assertMatch(<<"Traceback (most recent call last):\n", _/binary>>, Longer),
    ok = py:stop_worker(Worker).

%% With `traceback' an exception comes with the lines that raised it, and none of ours.
-spec traceback(ct_suite:ct_config()) -> ok.
traceback(Config) ->
    {ok, Ref} = start_stream(nested, [], #{traceback => true}, Config),
    {[], {error, {'LookupError', <<"deep">>, Traceback}}} = all_values(Ref),
    ?assertMatch({match, _}, re:run(Traceback, "failing\\.py\", line \\d+, in inner")),
    ?assertEqual(nomatch, string:find(Traceback, "erlang_port")),
    Opts = #{traceback => true},
    ?assertMatch(
        {error, {'LookupError', _, Traceback}},
        py:stream(failing, name(nested, Config), [], #{}, Opts)
    ),
    ?assertMatch(
        {error, {'ZeroDivisionError', _, <<_, _/binary>>}},
        py:stream_eval(<<"(1 // x for x in [0])">>, #{}, Opts)
    ),
    ?assertMatch({error, {_, _, <<_, _/binary>>}}, py:call(failing, before, [], #{}, Opts)),
    ?assertMatch({error, {_, _, <<_, _/binary>>}}, py:eval("1 // 0", #{}, Opts)),
    ?assertMatch({error, {_, _, <<_, _/binary>>}}, py:exec("1 // 0", Opts)).

%%% What is said about it.

%% A class that the node does not know is a binary: no atom is made of it.
-spec class_that_no_node_knows(ct_suite:ct_config()) -> ok.
class_that_no_node_knows(_Config) ->
    %% Put together here, so that the compiler makes no atom of it either.
    Name = <<"UnheardOf", "Error">>,
    ?assertEqual({error, {Name, <<>>}}, py:stream(failing, raising, [Name, 0])),
    ?assertEqual({error, {Name, <<>>}}, py:stream(failing, async_raising, [Name, 0])),
    ?assertError(badarg, binary_to_existing_atom(Name)).

%% Messages are UTF-8, whatever is in them.
-spec message_that_is_not_ascii(ct_suite:ct_config()) -> ok.
message_that_is_not_ascii(_Config) ->
    Message = <<"'überall – ☃'"/utf8>>,
    ?assertEqual({error, {'KeyError', Message}}, py:stream(failing, wide, [])),
    ?assertEqual({error, {'ValueError', <<"\\ud800">>}}, py:stream(failing, lone_surrogate, [])).

%% An exception whose text cannot be made is reported all the same.
-spec message_that_fails(ct_suite:ct_config()) -> ok.
message_that_fails(_Config) ->
    {error, {Class, Message}} = py:stream(failing, raising, [<<"MuteError">>, 0]),
    ?assertEqual(<<"MuteError">>, Class),
    ?assertNotEqual(nomatch, string:find(Message, "RuntimeError")).

%% Code that is no Python is a SyntaxError, and an `exec' of it changes nothing.
-spec syntax_error(ct_suite:ct_config()) -> ok.
syntax_error(_Config) ->
    ?assertMatch({error, {'SyntaxError', <<_, _/binary>>}}, py:exec("known = 1\ndef")),
    ?assertMatch({error, {'NameError', _}}, py:eval("known")),
    ?assertMatch({error, {'SyntaxError', _}}, py:eval("1 +")),
    ?assertMatch({error, {'SyntaxError', _}}, py:eval("x = 1")),
    ?assertMatch({error, {'SyntaxError', _}}, py:stream_eval("for x in")),
    ?assertMatch({error, {'IndentationError', _}}, py:exec("if True:\nx = 1")).

%% Names that code does not know, and what it raises, are its error.
-spec name_error(ct_suite:ct_config()) -> ok.
name_error(_Config) ->
    ?assertMatch({error, {'NameError', _}}, py:exec("unknown_name")),
    ?assertMatch({error, {'NameError', _}}, py:stream_eval("unknown_name")),
    ?assertEqual({error, {'ZeroDivisionError', <<"division by zero">>}}, py:eval("1 / 0")),
    ?assertEqual({error, {'SystemExit', <<"1">>}}, py:exec("raise SystemExit(1)")).

%% A binary that is not UTF-8 is a UnicodeDecodeError that says where it sits and names
%% the ways out.
-spec argument_that_is_no_text(ct_suite:ct_config()) -> ok.
argument_that_is_no_text(_Config) ->
    {ok, Ref} = py:stream_start(builtins, iter, [[<<"good">>, <<255>>]]),
    {[], {error, {'UnicodeDecodeError', Message}}} = all_values(Ref),
    ?assertNotEqual(nomatch, string:find(Message, "{bytes, ")),
    ?assertNotEqual(nomatch, string:find(Message, "binaries => bytes")),
    ?assertMatch({error, {'UnicodeDecodeError', _}}, py:stream(builtins, iter, [[<<255>>]])),
    ?assertMatch({error, {'UnicodeDecodeError', _}}, py:call(builtins, len, [<<255>>])).

%%% What never reaches Python.

%% A pool that is not there is an answer, not an exception.
-spec no_such_pool(ct_suite:ct_config()) -> ok.
no_such_pool(_Config) ->
    Opts = #{pool => nowhere},
    Answer = {error, {no_pool, nowhere}},
    ?assertEqual(Answer, py:stream_start(builtins, range, [1], Opts)),
    ?assertEqual(Answer, py:stream(builtins, range, [1], #{}, Opts)),
    ?assertEqual(Answer, py:stream_eval("[]", #{}, Opts)),
    ?assertEqual(Answer, py:call(builtins, len, [[]], #{}, Opts)),
    ?assertEqual(Answer, py:eval("1", #{}, Opts)),
    ?assertEqual(Answer, py:exec("1", Opts)),
    ?assertEqual(Answer, py:info(nowhere)).

%% A name that is no Python identifier raises, and is never pasted into code.
-spec bad_name(ct_suite:ct_config()) -> ok.
bad_name(_Config) ->
    Text = ["", <<>>, 'a-b', "a b", <<"1a">>, "a.", ".a", "a..b", <<"os;exit">>, <<255>>, "a\n"],
    %% Dots, digits and brackets, once they are normalised.
    Like = [<<"os．system"/utf8>>, <<"a․b"/utf8>>, <<"⒈a"/utf8>>, <<"a（"/utf8>>, "１a", <<"é."/utf8>>, <<"é", 255>>],
    Bad = [42, {a} | Text ++ Like],
    Calls = [
        fun(Name) -> py:stream_start(Name, f, []) end,
        fun(Name) -> py:stream_start(builtins, Name, []) end,
        fun(Name) -> py:stream(Name, f, []) end,
        fun(Name) -> py:call(builtins, Name, []) end
    ],
    [
        ?assertError({invalid_python_identifier, Name}, Call(Name))
     || Name <- Bad, Call <- Calls
    ],
    [
        ?assertError({invalid_python_identifier, Name}, py:stream_eval("[]", #{Name => 1}))
     || Name <- Bad
    ],
    ?assertEqual({ok, [0]}, py:stream("builtins", <<"range">>, [1])),
    ?assertEqual({ok, <<"/a">>}, py:call('os.path', join, [<<"/">>, <<"a">>])),
    ?assertEqual({ok, [<<"a">>, <<"b">>]}, py:stream(builtins, 'str.split', [<<"a b">>])).

%% An unknown option, or a value out of range, raises with the option's name and value,
%% and starts nothing.
-spec bad_option(ct_suite:ct_config()) -> ok.
bad_option(_Config) ->
    Bad = [
        {unknown, 1},
        {owner, me},
        {kwargs, none},
        {window, 0},
        {window, -1},
        {window, 1.0},
        {window, infinity},
        {window, 1 bsl 63},
        {window_bytes, 0},
        {demand, -1},
        {demand, all},
        {batch, 0},
        {take, 0},
        {take, -1},
        {format, xml},
        {timeout, -1},
        {timeout, never},
        {binaries, list},
        {traceback, 1},
        {pool, "default"}
    ],
    [
        ?assertError({badopt, {Key, Value}}, py:stream_start(builtins, range, [1], #{Key => Value}))
     || {Key, Value} <- Bad, Key =/= pool
    ],
    [
        ?assertError({badopt, {Key, Value}}, py:stream(builtins, range, [1], #{}, #{Key => Value}))
     || {Key, Value} <- Bad, Key =/= pool
    ],
    [
        ?assertError({badopt, {Key, Value}}, py:call(builtins, len, [[]], #{}, #{Key => Value}))
     || {Key, Value} <- [{window, 1}, {take, 1}, {timeout, -1}, {binaries, x}, {unknown, x}]
    ],
    ?assertError({badopt, {unknown, x}}, py:eval("1", #{}, #{unknown => x})),
    ?assertError({badopt, {unknown, x}}, py:exec("1", #{unknown => x})),
    ?assertError({badopt, {replay, x}}, py:exec("1", #{replay => x})),
    ?assertError({badopt, {args, x}}, py:stream_start(builtins, range, x)),
    ?assertError({badopt, {kwargs, x}}, py:stream(builtins, range, [], x)),
    ?assertError({badopt, {locals, x}}, py:stream_eval("[]", x)),
    ?assertError({badopt, _}, py:stream_start(builtins, range, [1], not_a_map)),
    ?assertError({badopt, _}, py:stream_cancel(make_ref(), [unknown])),
    ?assertError({badopt, {demand, 0}}, py:stream_demand(make_ref(), 0)),
    ?assertEqual({messages, []}, process_info(self(), messages)).

%% The same for a pool, which is not started.
-spec bad_pool_option(ct_suite:ct_config()) -> ok.
bad_pool_option(_Config) ->
    Bad = [
        {unknown, 1},
        {workers, 0},
        {python, python3},
        {python_path, x},
        {env, [{a, b}]},
        {preload, x},
        {max_streams, 0},
        {max_threads, 0},
        {memory_limit, none},
        {none, null},
        {window, 0},
        {window_bytes, 0},
        {allow, none},
        {interrupt_after, -1},
        {kill_after, x},
        {deaf_after, 0}
    ],
    [
        ?assertError({badopt, {Key, Value}}, py:start_pool(never, #{Key => Value}))
     || {Key, Value} <- Bad
    ],
    ?assertEqual({error, {no_pool, never}}, py:info(never)).

%% Code that is no text raises.
-spec bad_code(ct_suite:ct_config()) -> ok.
bad_code(_Config) ->
    [
        ?assertError({badopt, {code, Code}}, Call(Code))
     || Code <- [42, <<255>>, [a]],
        Call <- [fun py:exec/1, fun py:eval/1, fun py:stream_eval/1]
    ],
    ok.

%% Options that say who gets events, and when, mean nothing where there are none.
-spec options_of_a_stream_that_is_collected(ct_suite:ct_config()) -> ok.
options_of_a_stream_that_is_collected(_Config) ->
    [
        begin
            Opts = #{Key => Value},
            ?assertError({badopt, {Key, Value}}, py:stream(builtins, range, [1], #{}, Opts)),
            ?assertError({badopt, {Key, Value}}, py:stream_eval("[1]", #{}, Opts))
        end
     || {Key, Value} <- [{owner, self()}, {demand, 1}]
    ],
    ok.

%% Every reason has a sentence for people.
%% docs/failure.md has the reasons that there are, and those by which the node ends a worker. Each has a
%% sentence of its own.
-spec the_page_lists_every_reason(ct_suite:ct_config()) -> ok.
the_page_lists_every_reason(_Config) ->
    Source = proplists:get_value(source, py_error:module_info(compile)),
    {ok, Forms} = epp:parse_file(Source, []),
    Root = filename:dirname(filename:dirname(filename:dirname(Source))),
    {ok, Page} = file:read_file(filename:join(Root, "docs/failure.md")),
    [_, Section] = string:split(Page, "\n## Reasons\n"),
    [Reasons, Ended | _] = [Table || <<"| ", Table/binary>> <- string:split(Section, "\n\n", all)],
    ?assertEqual(members(reason, Forms), rows(Reasons)),
    ?assertEqual(members(ended, Forms), rows(Ended)),
    Sources = filelib:wildcard(filename:join(filename:dirname(Source), "*.erl")),
    Given = lists:append([given(File) || File <- Sources]),
    ?assert(lists:member("unresponsive", Given)),
    ?assertEqual([], lists:usort(Given) -- members(ended, Forms)),
    Examples =
        [{already_started, self()}, {busy, 2}, {cannot_start, <<"why">>}, {no_pool, x}, {no_worker, timeout}, {nodedown, x}] ++
            [{not_started, x}, {not_supported, x}, {python_not_found, "x"}, {start_timeout, 1}, {stream_exit, x}] ++
            [{worker_exit, 1}, {'ValueError', <<"why">>}, {'ValueError', <<"why">>, <<"where">>}] ++
            [list_to_atom(Name) || Name <- members(reason, Forms), hd(Name) =/= ${],
    ?assertEqual(length(members(reason, Forms)), length(Examples)),
    Statuses = [{failed, <<"why">>} | [list_to_atom(Name) || Name <- members(ended, Forms), hd(Name) =/= ${]],
    [
        ?assertNotMatch({_, {match, _}}, {Reason, re:run(py:format_error(Reason), "^(\\{|[a-z_]+$|the worker ended: )")})
     || Reason <- Examples ++ [{worker_exit, Status} || Status <- Statuses]
    ],
    ok.

%% What a union type has, written as on the page, without what its elements are called.
members(Name, Forms) ->
    [Union] = [Type || {attribute, _, type, {N, {type, _, union, Type}, []}} <- Forms, N =:= Name],
    lists:sort([member(Type) || Type <- Union]).

member({atom, _, Name}) -> atom_to_list(Name);
member({type, _, tuple, [{atom, _, Name} | Rest]}) -> lists:flatten(["{", atom_to_list(Name), commas(Rest), "}"]);
member({type, _, tuple, Elements}) -> lists:flatten(["{", commas(tl(Elements)), "}"]).

commas(Elements) -> [$, || _ <- Elements].

rows(Table) ->
    {match, Rows} = re:run(Table, "^\\| `([^`]+)` \\|", [global, multiline, {capture, all_but_first, list}]),
    lists:sort([row(Row) || [Row] <- Rows]).

row("{" ++ Tuple) ->
    [First | Rest] = string:split(string:trim(Tuple, trailing, "}"), ", ", all),
    Name = [First || hd(First) >= $a],
    lists:flatten(["{", Name, [$, || _ <- Rest], "}"]);
row(Atom) ->
    Atom.

%% The reasons that the code gives for the end of a worker.
given(File) ->
    {ok, Text} = file:read_file(File),
    Patterns = [
        "stop_replace\\(([a-z][a-z_]*),",
        "py_port:replace\\([^,()]+, ([a-z][a-z_]*)\\)",
        "\\{worker_exit, ([a-z][a-z_]*)\\}"
    ],
    lists:append([
        case re:run(Text, Pattern, [global, {capture, all_but_first, list}]) of
            {match, Found} -> [Name || [Name] <- Found];
            nomatch -> []
        end
     || Pattern <- Patterns
    ]).

-spec sentences(ct_suite:ct_config()) -> ok.
sentences(_Config) ->
    Reasons = [
        cancelled,
        timeout,
        overloaded,
        not_allowed,
        {worker_exit, 3},
        {worker_exit, {signal, 9}},
        {no_pool, nowhere},
        {nodedown, 'a@b'},
        {'ValueError', <<"text ☃"/utf8>>},
        {<<"Other">>, <<"text">>, <<"trace">>},
        something_else
    ],
    Sentences = [py:format_error(Reason) || Reason <- Reasons],
    ?assert(lists:all(fun io_lib:char_list/1, Sentences)),
    ?assertEqual(length(Reasons), length(lists:usort(Sentences))),
    ?assertEqual("ValueError: text " ++ [16#2603], lists:nth(9, Sentences)).

%%% What the cases share.

start_stream(Function, Args, Config) ->
    start_stream(Function, Args, #{}, Config).

start_stream(Function, Args, Opts, Config) ->
    py:stream_start(failing, name(Function, Config), Args, Opts).

name(Function, Config) ->
    ?config(prefix, Config) ++ atom_to_list(Function).
