%% @doc Runs the code blocks of a Markdown document, in order, as one session of
%% the Erlang shell would. {@link py_docs_SUITE} says what a writer must know.
-module(test_doc_session).

-export([run/3, run/4, blocks/1]).
-export_type([block/0]).

-type block() :: #{
    line := pos_integer(),
    language := string(),
    marks := [string()],
    text := string()
}.

-record(session, {
    functions = #{} :: #{{atom(), arity()} => erl_parse:abstract_form()},
    module = none :: module(),
    bindings = erl_eval:new_bindings() :: erl_eval:binding_struct(),
    %% Variables of earlier blocks: a match in this block may bind them anew.
    old = [] :: [atom()],
    %% Whether it may not, as in a shell.
    once = false :: boolean(),
    dir :: file:filename()
}).

%% A block that takes longer than this hangs: so the report can name it.
-define(BLOCK_LIMIT, 60000).

%% @doc Runs a document's blocks, each within a time limit, in a process of their own.
%% Files that the document defines are written to `Dir' before the first block runs, and
%% `Dir' is the current directory meanwhile.
-spec run(Name :: string(), Document :: unicode:chardata(), Dir :: file:filename()) ->
    {ok, BlocksRun :: non_neg_integer()} | {error, {string(), pos_integer(), term()}}.
run(Name, Document, Dir) ->
    run(Name, Document, Dir, #{}).

%% @doc With `once', a variable that is bound may not be bound again, in no later block either: so
%% all blocks can be typed into one shell, in order.
-spec run(string(), unicode:chardata(), file:filename(), #{once => boolean()}) ->
    {ok, BlocksRun :: non_neg_integer()} | {error, {string(), pos_integer(), term()}}.
run(Name, Document, Dir, Options) ->
    Blocks = blocks(Document),
    lists:foreach(fun(Block) -> define(Block, Dir) end, Blocks),
    {ok, Before} = file:get_cwd(),
    ok = file:set_cwd(Dir),
    Session = #session{dir = Dir, once = maps:get(once, Options, false)},
    try run_blocks(Name, runnable(Blocks), Session) after ok = file:set_cwd(Before) end.

run_blocks(Name, Blocks, Session) ->
    Parent = self(),
    {Pid, Monitor} = spawn_monitor(fun() ->
        %% A failure is the caller's to report: as an exit it is not logged as well.
        try session(Parent, Blocks, Session) of
            #session{} -> ok
        catch
            _:Reason:Stack -> exit({Reason, Stack})
        end
    end),
    follow(Name, Pid, Monitor, 0, 1).

follow(Name, Pid, Monitor, Count, Line) ->
    receive
        {Pid, begins, Next} ->
            follow(Name, Pid, Monitor, Count + 1, Next);
        {'DOWN', Monitor, process, Pid, normal} ->
            {ok, Count};
        {'DOWN', Monitor, process, Pid, Reason} ->
            {error, {Name, Line, Reason}}
    after ?BLOCK_LIMIT ->
        demonitor(Monitor, [flush]),
        exit(Pid, kill),
        {error, {Name, Line, {not_done_after_ms, ?BLOCK_LIMIT}}}
    end.

session(Parent, Blocks, New) ->
    lists:foldl(
        fun(#{line := Line} = Block, Session) ->
            Parent ! {self(), begins, Line},
            block(Block, Session)
        end,
        New,
        Blocks
    ).

define(#{marks := Marks, text := Text}, Dir) ->
    [write(filename:join(Dir, File), Text) || "defines: " ++ File <- Marks].

write(Path, Text) ->
    ok = filelib:ensure_dir(Path),
    ok = file:write_file(Path, unicode:characters_to_binary(Text)).

runnable(Blocks) ->
    [
        Block
     || #{language := Language, marks := Marks} = Block <- Blocks,
        lists:member(Language, ["erlang", "python"]),
        not lists:any(fun(Mark) -> lists:prefix("no-run:", Mark) end, Marks)
    ].

%% @doc The fenced code blocks of a document, each with the HTML comments directly above it.
-spec blocks(unicode:chardata()) -> [block()].
blocks(Document) ->
    Lines = string:split(unicode:characters_to_list(Document), "\n", all),
    outside(lists:zip(lists:seq(1, length(Lines)), Lines), []).

outside([], _Marks) ->
    [];
outside([{Number, Line} | Rest], Marks) ->
    case string:trim(Line) of
        "```" ++ Language ->
            Indent = length(Line) - length(string:trim(Line, leading)),
            {Text, After} = inside(Rest, Indent, []),
            Block = #{
                line => Number + 1,
                language => string:trim(Language),
                marks => lists:reverse(Marks),
                text => lists:append(Text)
            },
            [Block | outside(After, [])];
        "<!--" ++ Comment ->
            outside(Rest, [string:trim(string:trim(Comment, trailing, "->")) | Marks]);
        "" ->
            outside(Rest, Marks);
        _ ->
            outside(Rest, [])
    end.

inside([{_, Line} | Rest], Indent, Text) ->
    case string:trim(Line) of
        "```" -> {lists:reverse(Text), Rest};
        _ -> inside(Rest, Indent, [lists:nthtail(min(Indent, length(Line)), Line) ++ "\n" | Text])
    end.

block(#{language := "python"} = Block, Session) ->
    #{line := Line, marks := Marks, text := Text} = Block,
    %% Empty lines above it make Python's line numbers those of the document.
    Source = unicode:characters_to_binary([lists:duplicate(Line - 1, $\n), Text]),
    {ok, _} = py:eval(<<"compile(source, 'document', 'exec') and None">>, #{source => Source}),
    lists:member("run", Marks) andalso (ok = py:exec(Source)),
    Session;
block(#{language := "erlang", line := Line, text := Text}, Session) ->
    {ok, Tokens, _} = erl_scan:string(Text, Line, [return_comments]),
    Old = [Name || {Name, _} <- erl_eval:bindings(Session#session.bindings)],
    case forms(Tokens) of
        [{[{'-', _}, {atom, _, module}, {'(', _}, {atom, _, Name} | _], _} | _] ->
            %% Empty lines above it make its line numbers those of the document.
            Source = filename:join(Session#session.dir, atom_to_list(Name) ++ ".erl"),
            write(Source, [lists:duplicate(Line - 1, $\n), Text]),
            load(compile:file(Source, [binary, report])),
            Session;
        Forms ->
            Parsed = [{parse(Form), Comments} || {Form, Comments} <- Forms],
            Functions = [Function || {{function, Function}, _} <- Parsed],
            lists:foldl(
                fun expressions/2,
                functions(Functions, Session#session{old = Old}),
                [{Expressions, Checks} || {{expressions, Expressions}, Checks} <- Parsed]
            )
    end.

%% Splits tokens at the dots. A comment belongs to the form that it stands in or behind.
forms(Tokens) ->
    forms(Tokens, [], []).

forms([], [], Forms) ->
    [{Form, lists:reverse(Comments)} || {Form, Comments} <- lists:reverse(Forms)];
forms([], {Tokens, _}, _Forms) ->
    error({no_dot_after, lists:reverse(Tokens)});
forms([{comment, _, _} = Comment | Rest], [], [{Form, Comments} | Forms]) ->
    forms(Rest, [], [{Form, [Comment | Comments]} | Forms]);
forms([{comment, _, _} | Rest], [], []) ->
    forms(Rest, [], []);
forms([{comment, _, _} = Comment | Rest], {Tokens, Comments}, Forms) ->
    forms(Rest, {Tokens, [Comment | Comments]}, Forms);
forms([{dot, _} = Dot | Rest], {Tokens, Comments}, Forms) ->
    forms(Rest, [], [{lists:reverse([Dot | Tokens]), Comments} | Forms]);
forms([Token | Rest], [], Forms) ->
    forms(Rest, {[Token], []}, Forms);
forms([Token | Rest], {Tokens, Comments}, Forms) ->
    forms(Rest, {[Token | Tokens], Comments}, Forms).

parse(Tokens) ->
    case erl_parse:parse_exprs(Tokens) of
        {ok, Expressions} -> {expressions, Expressions};
        {error, _} -> {function, parse_form(Tokens)}
    end.

parse_form(Tokens) ->
    case erl_parse:parse_form(Tokens) of
        {ok, Form} -> Form;
        {error, Reason} -> error({does_not_parse, Reason})
    end.

load({ok, Module, Binary}) ->
    {module, Module} = code:load_binary(Module, "document", Binary),
    Module.

%% The functions of all blocks so far make one module; a later definition replaces an earlier one.
functions([], Session) ->
    Session;
functions(New, Session) ->
    Functions = lists:foldl(
        fun({function, _, Name, Arity, _} = Function, Known) ->
            Known#{{Name, Arity} => Function}
        end,
        Session#session.functions,
        New
    ),
    Name = list_to_atom("doc_functions_" ++ integer_to_list(maps:size(Functions))),
    Attributes = [{attribute, 1, module, Name}, {attribute, 1, compile, [export_all, nowarn_export_all]}],
    Module = compile:forms(Attributes ++ maps:values(Functions), [report]),
    code:purge(Name),
    Session#session{functions = Functions, module = load(Module)}.

expressions({Expressions, Comments}, Session) ->
    {Value, Done} = lists:foldl(fun expression/2, {ok, Session}, Expressions),
    checks(Comments, Value, Done#session.bindings),
    Done.

expression(Expression, {_, #session{module = Module, old = Old, once = Once} = Session}) ->
    Again = [Name || Name <- bound_by(Expression), lists:member(Name, Old)],
    Once andalso Again =/= [] andalso error({bound_twice, Again}),
    Bindings = lists:foldl(fun erl_eval:del_binding/2, Session#session.bindings, Again),
    Local = {value, fun(Name, Arguments) -> apply(Module, Name, Arguments) end},
    {value, Value, After} = erl_eval:expr(name_funs(Expression, Module), Bindings, Local),
    {Value, Session#session{bindings = After, old = Old -- Again}}.

%% The variables that a match binds, those aside that its right side needs.
bound_by({match, _, Pattern, Right}) ->
    (variables(Pattern) -- variables(Right)) ++ bound_by(Right);
bound_by(_) ->
    [].

variables({var, _, Name}) -> [Name];
variables(Tuple) when is_tuple(Tuple) -> variables(tuple_to_list(Tuple));
variables([Head | Tail]) -> lists:usort(variables(Head) ++ variables(Tail));
variables(_) -> [].

%% The evaluator does not know what `fun name/1' means in a shell, so the module is named.
name_funs({'fun', Line, {function, Name, Arity}}, Module) when is_atom(Name) ->
    {'fun', Line, {function, {atom, Line, Module}, {atom, Line, Name}, {integer, Line, Arity}}};
name_funs(Tuple, Module) when is_tuple(Tuple) ->
    list_to_tuple(name_funs(tuple_to_list(Tuple), Module));
name_funs([Head | Tail], Module) ->
    [name_funs(Head, Module) | name_funs(Tail, Module)];
name_funs(Other, _Module) ->
    Other.

%% A comment such as `%% Squares = [0,1,4]' or `%% => {ok, _}' says what the code gave.
%% It may go on in the comment lines that follow it; prose is left alone.
checks([], _Value, _Bindings) ->
    ok;
checks([{comment, Line, Text} | Rest], Value, Bindings) ->
    case string:trim(string:trim(Text, leading, "%")) of
        "=> " ++ Expected ->
            check(Line, expected(Expected, Rest), Value, Bindings);
        Comment ->
            case re:run(Comment, "^([A-Z]\\w*) = (.+)$", [{capture, [1, 2], list}]) of
                {match, [Name, Expected]} ->
                    case erl_eval:binding(list_to_atom(Name), Bindings) of
                        {value, Bound} -> check(Line, expected(Expected, Rest), Bound, Bindings);
                        unbound -> ok
                    end;
                nomatch ->
                    ok
            end
    end,
    checks(Rest, Value, Bindings).

expected(Text, More) ->
    Whole = string:trim(Text, trailing, " .") ++ " .",
    case erl_scan:string(Whole) of
        {ok, Tokens, _} ->
            case {erl_parse:parse_exprs(Tokens), More} of
                {{ok, [Expected]}, _} ->
                    Expected;
                {_, [{comment, _, Next} | Rest]} ->
                    expected(Text ++ " " ++ string:trim(Next, leading, "% "), Rest);
                {_, []} ->
                    prose
            end;
        {error, _, _} ->
            prose
    end.

check(_Line, prose, _Value, _Bindings) ->
    ok;
check(Line, Expected, Value, Bindings) ->
    case equals(Expected, Value, Bindings) orelse matches(Expected, Value, Bindings) of
        true -> ok;
        false -> error({line, Line, says, lists:flatten(erl_pp:expr(Expected)), but_it_is, Value})
    end.

equals(Expected, Value, Bindings) ->
    try erl_eval:expr(Expected, Bindings) of
        {value, Result, _} -> Result =:= Value
    catch
        error:_ -> false
    end.

matches(Pattern, Value, Bindings) ->
    Clause = fun(Head, Answer) -> {clause, 1, [Head], [], [{atom, 1, Answer}]} end,
    Case = {'case', 1, {var, 1, 'Value of the document'}, [Clause(Pattern, true), Clause({var, 1, '_'}, false)]},
    try erl_eval:expr(Case, erl_eval:add_binding('Value of the document', Value, Bindings)) of
        {value, Matched, _} -> Matched
    catch
        error:_ -> false
    end.
