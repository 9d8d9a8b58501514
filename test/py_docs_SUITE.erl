%% @doc Runs the code blocks of README.md and of every page in docs/.
%%
%% What a writer must know:
%%
%% <ul>
%% <li>A document is one session: variables and functions stay known from block to block.
%%     Within a block a variable is bound once; a later block may bind it again with a
%%     match such as `{ok, Ref} = ...', but not in README.md, which can be typed into one shell.</li>
%% <li>An `erlang' block holds expressions and function definitions, in any order, each
%%     ended by a dot, as the shell takes them. One that begins with `-module(...)' is
%%     compiled and loaded.</li>
%% <li>A comment after or in an expression, `%% Var = Term' or `%% => Term' (the value of the
%%     last expression), is checked; `Term' may be a pattern with `_' in it. What does not
%%     parse, as `[1,2,...]', is prose and not checked.</li>
%% <li>A `python' block is compiled. With `<!-- run -->' above it, it is executed by `py:exec/1'
%%     too.</li>
%% <li>`<!-- defines: name.py -->' above a block of any language makes it a file, there before
%%     the first block runs, in the current directory, which is also on Python's path.</li>
%% <li>`<!-- no-run: reason -->' above a block leaves it out.</li>
%% <li>Blocks of other languages are left alone. A block has a minute.</li>
%% </ul>
-module(py_docs_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0]).
-export([init_per_group/2, end_per_group/2]).
-export([
    does_what_it_says/1,
    a_session_spans_blocks/1,
    a_variable_that_is_bound_twice_is_found/1,
    a_wrong_result_is_found/1,
    a_failing_block_is_named/1,
    python_is_compiled/1,
    files_are_there_first/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 10}}].

-spec all() -> [{group, atom()}].
all() ->
    [{group, runner} | [{group, list_to_atom(Document)} || Document <- documents()]].

-spec groups() -> [{atom(), [atom()], [atom()]}].
groups() ->
    Runner = [
        a_session_spans_blocks,
        a_variable_that_is_bound_twice_is_found,
        a_wrong_result_is_found,
        a_failing_block_is_named,
        python_is_compiled,
        files_are_there_first
    ],
    [
        {runner, [], Runner}
        | [{list_to_atom(Document), [], [does_what_it_says]} || Document <- documents()]
    ].

documents() ->
    ["README.md" | filelib:wildcard("docs/*.md", test_program:root())].

-spec init_per_group(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_group(Group, Config) ->
    Name = re:replace(atom_to_list(Group), "\\W", "_", [global, {return, list}]),
    Dir = filename:join(?config(priv_dir, Config), Name),
    ok = filelib:ensure_path(Dir),
    Pool = #{workers => 2, python_path => [Dir], cd => Dir},
    ok = application:set_env(erlang_python, pools, #{default => Pool}),
    {ok, _} = application:ensure_all_started(erlang_python),
    [{document, atom_to_list(Group)}, {dir, Dir} | Config].

-spec end_per_group(atom(), ct_suite:ct_config()) -> ok.
end_per_group(_Group, _Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

%% A reader who copies a document's blocks into a shell sees what the document says.
-spec does_what_it_says(ct_suite:ct_config()) -> {comment, string()}.
does_what_it_says(Config) ->
    Document = ?config(document, Config),
    {ok, Text} = file:read_file(filename:join(test_program:root(), Document)),
    Options = #{once => Document =:= "README.md"},
    case test_doc_session:run(Document, Text, ?config(dir, Config), Options) of
        {ok, Count} ->
            {comment, lists:concat([Count, " blocks"])};
        {error, {Name, Line, Reason}} ->
            ct:fail("~ts, in the block at line ~b: ~tp", [Name, Line, Reason])
    end.

%% Variables and functions of one block are known in the next, which may bind a variable again.
-spec a_session_spans_blocks(ct_suite:ct_config()) -> ok.
a_session_spans_blocks(Config) ->
    Document = [
        erlang("X = 1, Y = twice(X).\n%% Y = 2\ntwice(N) -> N * 2."),
        erlang("{ok, X} = {ok, 5}.\ntwice(X) + Y.\n%% => 12\nlists:map(fun twice/1, [1]).\n%% => [_]"),
        "<!-- no-run: it would fail -->\n",
        erlang("1 = 2."),
        erlang("-module(doc_example).\n-export([f/0]).\nf() -> 7."),
        erlang("7 = doc_example:f().")
    ],
    ?assertEqual({ok, 4}, run(Document, Config)).

%% Where all blocks are for one shell, a variable is bound once, also to what it was.
-spec a_variable_that_is_bound_twice_is_found(ct_suite:ct_config()) -> ok.
a_variable_that_is_bound_twice_is_found(Config) ->
    Once = fun(Document) -> test_doc_session:run("doc", Document, ?config(dir, Config), #{once => true}) end,
    ?assertEqual({ok, 2}, Once([erlang("X = 1, Y = X + 1."), erlang("2 = Y, Z = X.")])),
    ?assertMatch({error, {_, 5, {{bound_twice, ['X']}, _}}}, Once([erlang("X = 1."), erlang("{ok, X} = {ok, 2}.")])),
    ?assertMatch({error, {_, 5, {{bound_twice, ['X']}, _}}}, Once([erlang("X = 1."), erlang("X = 1.")])).

%% What a comment says about a result is held against the result.
-spec a_wrong_result_is_found(ct_suite:ct_config()) -> ok.
a_wrong_result_is_found(Config) ->
    ?assertMatch({error, {_, 2, _}}, run(erlang("X = 1.\n%% X = 2"), Config)),
    ?assertMatch({error, {_, 2, _}}, run(erlang("{1, 2}.\n%% => {_, 3}"), Config)),
    ?assertMatch({error, {_, 2, _}}, run(erlang("[1, 2].\n%% => [1,\n%%     3]"), Config)).

%% A block that raises, and one that does not parse, are reported with their lines.
-spec a_failing_block_is_named(ct_suite:ct_config()) -> ok.
a_failing_block_is_named(Config) ->
    ?assertMatch({error, {"doc", 5, _}}, run([erlang("ok."), erlang("1 = 2.")], Config)),
    ?assertMatch({error, {"doc", 2, _}}, run(erlang("f(."), Config)),
    ?assertMatch({error, {"doc", 2, _}}, run(erlang("no_dot"), Config)).

%% Python blocks are compiled, and executed where that is asked for.
-spec python_is_compiled(ct_suite:ct_config()) -> ok.
python_is_compiled(Config) ->
    ?assertMatch({error, _}, run("```python\ndef f(:\n```\n", Config)),
    ?assertEqual({ok, 1}, run("```python\n1 / 0\n```\n", Config)),
    ?assertMatch({error, _}, run("<!-- run -->\n```python\n1 / 0\n```\n", Config)).

%% A file that a document defines can be imported before the block that shows it.
-spec files_are_there_first(ct_suite:ct_config()) -> ok.
files_are_there_first(Config) ->
    Document = [
        erlang("{ok, 3} = py:call(shown_later, f, [])."),
        "<!-- defines: shown_later.py -->\n```python\ndef f():\n    return 3\n```\n"
    ],
    ?assertEqual({ok, 2}, run(Document, Config)).

run(Document, Config) ->
    test_doc_session:run("doc", Document, ?config(dir, Config)).

erlang(Code) ->
    ["```erlang\n", Code, "\n```\n"].
