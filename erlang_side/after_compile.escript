#!/usr/bin/env escript
%% Makes what rebar3 does not: how a release is upgraded, and the documentation that `h(py)' prints.
%% rebar3 runs it after each compilation, also for Mix.
main([]) ->
    case app(dirs()) of
        none ->
            ok;
        App ->
            ok = appup(App),
            _ = code:which(edoc_doclet_chunks) =:= non_existing orelse try_to_make(App),
            ok
    end.

%%% The file `.appup': every module is loaded. What runs goes on, and a module whose code from the
%% time before is in use by a process is not purged.
appup(App) ->
    {ok, [{application, _, Keys}]} = file:consult(filename:join(App, "ebin/erlang_python.app")),
    Load = [{load_module, Module, soft_purge, soft_purge, []} || Module <- proplists:get_value(modules, Keys)],
    From = [{<<"0\\.1\\..*">>, Load}],
    Appup = {proplists:get_value(vsn, Keys), From, From},
    file:write_file(filename:join(App, "ebin/erlang_python.appup"), io_lib:format("~tp.~n", [Appup])).

%%% Documentation of the modules' comments, for Erlang's shell and IEx. It needs nothing but OTP's
%% EDoc; where that is not installed, there is none. The files are where OTP looks for them, in
%% `doc/chunks' beside `ebin'. A release takes `ebin' along and not `doc', so the BEAM files get
%% them, too.

%% What EDoc of another release makes of a comment is no reason for a build to fail.
try_to_make(App) ->
    try make(App) of
        _ -> ok
    catch
        _:Reason -> io:format(standard_error, "erlang_python: h(py) will print nothing: ~0tP~n", [Reason, 20])
    end.

%% Where the compiled application is: Mix says so; rebar3 has dependencies, and the project
%% itself, in one folder, and checkouts in another.
dirs() ->
    [Dir || Dir <- [os:getenv("REBAR_BARE_COMPILER_OUTPUT_DIR")], Dir =/= false] ++
        [
            filename:join(Dir, "erlang_python")
         || Variable <- ["REBAR_CHECKOUTS_OUT_DIR", "REBAR_DEPS_DIR"], Dir <- [os:getenv(Variable)], Dir =/= false
        ].

app(Dirs) ->
    case [Dir || Dir <- Dirs, filelib:is_regular(filename:join(Dir, "ebin/py.beam"))] of
        [Dir | _] -> Dir;
        [] -> none
    end.

make(App) ->
    Beams = filelib:wildcard(filename:join(App, "ebin/py*.beam")),
    case [Beam || Beam <- Beams, not is_done(Beam)] of
        [] ->
            ok;
        _ ->
            %% All of them: a module's comments may refer to another's.
            Chunks = [{doclet, edoc_doclet_chunks}, {layout, edoc_layout_chunks}, {preprocess, true}],
            ok = edoc:files(filelib:wildcard("erlang_side/src/*.erl"), [{dir, filename:join(App, "doc")} | Chunks]),
            lists:foreach(fun(Beam) -> add(Beam, chunk(App, Beam)) end, Beams)
    end.

is_done(Beam) ->
    {ok, _, Chunks} = beam_lib:all_chunks(Beam),
    %% From OTP 27 on the compiler has such a chunk of its own, which says nothing of the module.
    case lists:keyfind("Docs", 1, Chunks) of
        {_, Chunk} -> element(5, binary_to_term(Chunk)) =/= none;
        false -> false
    end.

chunk(App, Beam) ->
    {ok, Chunk} = file:read_file(filename:join([App, "doc/chunks", filename:basename(Beam, ".beam") ++ ".chunk"])),
    case list_to_integer(erlang:system_info(otp_release)) >= 27 of
        true -> in_markdown(Chunk);
        false -> Chunk
    end.

%% The only format that newer releases of IEx know; the shell knows it from OTP 27 on.
in_markdown(Chunk) ->
    {docs_v1, Anno, Language, _Format, Module, Metadata, Entries} = binary_to_term(Chunk),
    Docs = [{Key, Where, Signature, text(Doc), More} || {Key, Where, Signature, Doc, More} <- Entries],
    term_to_binary({docs_v1, Anno, Language, <<"text/markdown">>, text(Module), Metadata, Docs}).

text(Docs) when is_map(Docs) ->
    maps:map(fun(_Language, Text) -> string:trim(unicode:characters_to_binary(markdown(Text))) end, Docs);
text(Hidden) ->
    Hidden.

markdown(Text) when is_binary(Text) -> Text;
markdown(Nodes) when is_list(Nodes) -> lists:map(fun markdown/1, Nodes);
markdown({code, _, Nodes}) -> ["`", markdown(Nodes), "`"];
markdown({li, _, Nodes}) -> ["* ", markdown(Nodes), "\n"];
markdown({Block, _, Nodes}) when Block =:= p; Block =:= ul -> ["\n\n", markdown(Nodes), "\n\n"];
markdown({_, _, Nodes}) -> markdown(Nodes).

add(Beam, Chunk) ->
    {ok, _, Chunks} = beam_lib:all_chunks(Beam),
    {ok, Binary} = beam_lib:build_module(lists:keystore("Docs", 1, Chunks, {"Docs", Chunk})),
    %% Nobody loads half a file.
    ok = file:write_file(Beam ++ ".new", Binary),
    ok = file:rename(Beam ++ ".new", Beam).
