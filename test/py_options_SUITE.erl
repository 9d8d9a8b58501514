%% @doc Which options there are, what each may be, and what it is if it is not given.
-module(py_options_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([
    good_values/1,
    bad_values/1,
    unknown_options/1,
    no_map/1,
    the_nearer_default_wins/1,
    a_pool_gives_calls_what_concerns_them/1,
    a_pool_has_all_defaults/1,
    a_worker_has_no_number_of_workers/1,
    types_have_every_option/1,
    the_page_says_what_the_code_does/1,
    the_page_says_what_is_not_for_a_worker/1,
    the_page_says_what_the_application_takes/1,
    the_changelog_names_everything/1,
    types_are_documented/1,
    the_shell_says_what_is_allowed/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        good_values,
        bad_values,
        unknown_options,
        no_map,
        the_nearer_default_wins,
        a_pool_gives_calls_what_concerns_them,
        a_pool_has_all_defaults,
        a_worker_has_no_number_of_workers,
        types_have_every_option,
        the_page_says_what_the_code_does,
        the_page_says_what_is_not_for_a_worker,
        the_page_says_what_the_application_takes,
        the_changelog_names_everything,
        types_are_documented,
        the_shell_says_what_is_allowed
    ].

-define(MOST, 16#7ffffffffffffff).

%% Every option takes its smallest and its largest values, and comes out as it was given.
-spec good_values(ct_suite:ct_config()) -> ok.
good_values(_Config) ->
    [
        ?assertMatch({Kind, Key, #{Key := Value}}, {Kind, Key, check(Kind, #{Key => Value})})
     || {Kind, Key, Values, _} <- options(), Value <- Values
    ],
    ok.

%% Everything else is refused by name.
-spec bad_values(ct_suite:ct_config()) -> ok.
bad_values(_Config) ->
    [
        ?assertError({badopt, {Key, Value}}, check(Kind, #{Key => Value}))
     || {Kind, Key, _, Values} <- options(), Value <- Values ++ [{a, b, c}, 1.5, #{1 => 2}, fun() -> ok end],
        not ((Key =:= kwargs orelse Key =:= metadata) andalso is_map(Value))
    ],
    ok.

%% An option of another kind is as unknown as one that is misspelled.
-spec unknown_options(ct_suite:ct_config()) -> ok.
unknown_options(_Config) ->
    Unknown = [
        {stream, [widnow, workers, replay]},
        {collect, [owner, demand, workers, kwargs]},
        {enumerable, [owner, demand, workers]},
        {enumerable_eval, [owner, demand, workers, kwargs]},
        {call, [window, owner, replay, batch, kwargs]},
        {exec, [window, owner, kwargs]},
        {channel, [pool, traceback, demand, batch]},
        {pool, [pool, owner, timeout, kwargs, workerz, <<"workers">>]},
        {worker, [pool, workers, cluster, max_requests, max_age, max_rss, reload]}
    ],
    [
        ?assertError({badopt, {Key, 1}}, check(Kind, #{Key => 1}))
     || {Kind, Keys} <- Unknown, Key <- Keys
    ],
    ok.

-spec no_map(ct_suite:ct_config()) -> ok.
no_map(_Config) ->
    [
        ?assertError({badopt, {options, Opts}}, check(Kind, Opts))
     || Kind <- [stream, collect, enumerable, enumerable_eval, channel, call, exec, pool, worker], Opts <- [[1], [{a, b, c}], [{a, 1} | b], none, 1]
    ],
    ok.

%% The request's own option, then the pool's, then the default.
-spec the_nearer_default_wins(ct_suite:ct_config()) -> ok.
the_nearer_default_wins(_Config) ->
    ?assertMatch(
        #{window := 1024, window_bytes := 4194304, format := term, timeout := infinity, binaries := str, atoms := atom, traceback := false},
        py_options:stream(#{}, #{})
    ),
    Pool = #{window => 5, binaries => bytes, atoms => str, traceback => true},
    ?assertMatch(#{window := 5, window_bytes := 4194304, binaries := bytes, atoms := str}, py_options:stream(#{}, Pool)),
    ?assertMatch(#{window := 6, traceback := true}, py_options:stream(#{window => 6}, Pool)),
    ?assertMatch(#{window := 5, traceback := false}, py_options:collect(#{traceback => false}, Pool)),
    ?assertMatch(#{timeout := 30000, binaries := str, atoms := atom, traceback := false}, py_options:call(#{}, #{})),
    ?assertMatch(#{timeout := 7, binaries := str, atoms := str, traceback := true}, py_options:call(#{timeout => 7, binaries => str}, Pool)),
    ?assertMatch(#{replay := true, timeout := 30000, binaries := bytes}, py_options:exec(#{}, Pool)),
    ?assertMatch(#{replay := false, timeout := 7}, py_options:exec(#{replay => false, timeout => 7}, Pool)).

%% What a pool has for streams alone does not come out of a call's options.
-spec a_pool_gives_calls_what_concerns_them(ct_suite:ct_config()) -> ok.
a_pool_gives_calls_what_concerns_them(_Config) ->
    Defaults = #{window => 5, window_bytes => 6, binaries => bytes, traceback => true},
    [
        ?assertEqual([], [Key || Key <- [window, window_bytes], is_map_key(Key, check(Kind, #{}, Defaults))])
     || Kind <- [call, exec]
    ],
    ok.

-spec a_pool_has_all_defaults(ct_suite:ct_config()) -> ok.
a_pool_has_all_defaults(_Config) ->
    Schedulers = min(4, erlang:system_info(schedulers_online)),
    ?assertMatch(
        #{
            workers := Schedulers,
            requirements := [],
            python_path := [],
            env := [],
            preload := [],
            max_streams := 10000,
            max_threads := 1024,
            thread := any,
            memory_limit := infinity,
            none := none,
            allow := all,
            interrupt_after := 1000,
            interrupt_grace := 5000,
            kill_after := infinity,
            deaf_after := infinity,
            start_timeout := 30000
        },
        py_options:pool(#{})
    ).

-spec a_worker_has_no_number_of_workers(ct_suite:ct_config()) -> ok.
a_worker_has_no_number_of_workers(_Config) ->
    ?assertError({badopt, {workers, 1}}, py_options:worker(#{workers => 1})),
    ?assertEqual(py_options:pool(#{none => nil}), py_options:worker(#{none => nil})).

%% What is checked, what the types have and what the shell explains are the same options.
-spec types_have_every_option(ct_suite:ct_config()) -> ok.
types_have_every_option(_Config) ->
    Forms = forms(),
    Common = checked(Forms, common_option),
    [
        ?assertEqual({Type, lists:usort(Checked)}, {Type, lists:sort([Key || {Key, _} <- fields(Forms, Type)])})
     || {Type, Checked} <- [
            {stream_options, Common ++ checked(Forms, stream_option)},
            {call_options, Common ++ checked(Forms, exec_option)},
            {channel_options, checked(Forms, channel_option)},
            {pool_options, checked(Forms, pool_option)}
        ]
    ],
    [
        ?assertEqual({Kind, lists:sort([Key || {Of, Key, _, _} <- options(), Of =:= Kind])}, {Kind, explained(Kind)})
     || Kind <- [stream, collect, channel, call, exec, pool, worker]
    ],
    ?assertEqual(explained(stream) -- [owner, demand], explained(enumerable)),
    ?assertEqual(explained(collect), explained(enumerable_eval)),
    ?assertEqual(explained(stream), lists:usort(Common ++ checked(Forms, stream_option))),
    ?assertEqual(explained(exec), lists:usort(Common ++ checked(Forms, exec_option))),
    ?assertEqual(explained(pool), lists:sort(checked(Forms, pool_option))).

%% docs/options.md has the options that there are, what each may be, and its default.
-spec the_page_says_what_the_code_does(ct_suite:ct_config()) -> ok.
the_page_says_what_the_code_does(_Config) ->
    [
        begin
            Rows = rows(Section, page()),
            ?assertEqual({Section, said(Kind)}, {Section, maps:from_list([{Key, May} || {Key, May, _} <- Rows])}),
            [?assertEqual({Section, Key}, {Section, says_default(Key, Default, Kind)}) || {Key, _, Default} <- Rows]
        end
     || {Section, Kind} <- [{"Pools", pool}, {"Streams", stream}, {"Channels", channel}, {"Calls", exec}]
    ],
    ok.

-spec the_page_says_what_is_not_for_a_worker(ct_suite:ct_config()) -> ok.
the_page_says_what_is_not_for_a_worker(_Config) ->
    {match, Rows} = re:run(page(), "^\\| `(\\w+)` .* Not for a worker of one's own \\|$", [
        global, multiline, {capture, [1], binary}
    ]),
    NotForWorker = lists:sort([binary_to_existing_atom(Key) || [Key] <- Rows]),
    ?assertEqual(explained(pool) -- explained(worker), NotForWorker),
    [
        ?assertError({badopt, {Key, Good}}, py_options:worker(#{Key => Good}))
     || {pool, Key, [Good | _], _} <- options(), lists:member(Key, NotForWorker)
    ],
    ok.

%% The application starts with nothing else in its environment.
-spec the_page_says_what_the_application_takes(ct_suite:ct_config()) -> ok.
the_page_says_what_the_application_takes(_Config) ->
    Rows = rows("The application", page()),
    ?assertEqual(said(application), maps:from_list([{Key, May} || {Key, May, _} <- Rows])),
    Good = [{pools, #{}}, {pools, []}, {python, "python3"}, {drain_timeout, 0}, {max_callbacks, 1}, {liveness_ms, 1}],
    [?assertEqual(ok, py_options:application([Entry])) || Entry <- Good],
    ?assertEqual(explained(application), lists:usort([Key || {Key, _} <- Good])),
    Bad = [
        {pools, none}, {python, python3}, {drain_timeout, -1}, {max_callbacks, 0}, {liveness_ms, 0}, {liveness_ms, infinity}, {pool, #{}}
    ],
    [
        begin
            ?assertError({badopt, Entry}, py_options:application([Entry])),
            ok = application:set_env(erlang_python, Key, Value),
            ?assertMatch({error, {{badopt, Entry}, _}}, application:start(erlang_python)),
            ok = application:unset_env(erlang_python, Key)
        end
     || Entry = {Key, Value} <- Bad
    ],
    ok.

%% Each function of `py', by name and arity, and each option.
-spec the_changelog_names_everything(ct_suite:ct_config()) -> ok.
the_changelog_names_everything(_Config) ->
    {ok, Text} = file:read_file(filename:join(test_program:root(), "CHANGELOG.md")),
    {match, Named} = re:run(Text, "\\b([a-z_]+)/([0-9](?:,[0-9])*)", [global, {capture, [1, 2], list}]),
    Functions = [{list_to_atom(Name), list_to_integer(N)} || [Name, Arities] <- Named, N <- string:lexemes(Arities, ",")],
    ?assertEqual([], [F || F = {Name, _} <- py:module_info(exports) -- Functions, Name =/= module_info]),
    Options = lists:usort(lists:append([explained(Kind) || Kind <- [stream, channel, call, exec, pool, stop, application]])),
    ?assertEqual([], [Key || Key <- Options, re:run(Text, ["`", atom_to_list(Key), "\\b"]) =:= nomatch]).

%% The types' comments, which the reference shows, have a line for each option, with its default.
-spec types_are_documented(ct_suite:ct_config()) -> ok.
types_are_documented(_Config) ->
    {ok, Source} = file:read_file(proplists:get_value(source, py_options:module_info(compile))),
    [
        begin
            [_, From] = binary:split(Source, <<"-type ", (atom_to_binary(Type))/binary, "()">>),
            [Comment, _] = binary:split(From, <<"%% </ul>">>),
            {match, Lines} = re:run(Comment, "^%% <li>`(\\w+)' \\(default: (.*?)\\): ", [global, multiline, {capture, [1, 2], binary}]),
            ?assertEqual({Type, explained(Kind)}, {Type, lists:sort([binary_to_existing_atom(Key) || [Key, _] <- Lines])}),
            [
                ?assertEqual({Type, Key}, {Type, says_default(Key, string:replace(Default, "'", "`", all), Kind)})
             || [Name, Default] <- Lines, Key <- [binary_to_existing_atom(Name)]
            ]
        end
     || {Type, Kind} <- [{stream_options, stream}, {channel_options, channel}, {call_options, exec}, {pool_options, pool}]
    ],
    ok.

%% An error explains itself: the option, what it may be and what it is, or the options that there are.
-spec the_shell_says_what_is_allowed(ct_suite:ct_config()) -> ok.
the_shell_says_what_is_allowed(_Config) ->
    Said = [
        {fun() -> py_options:pool(#{workers => 0}) end, "{badopt,{workers,0}}: the option workers must be a positive integer, and is not 0"},
        {fun() -> py_options:call(#{widnow => 5}, #{}) end, "a call has no option widnow. It has atoms, binaries, metadata, output, pool, profile, return, timeout, traceback"},
        {fun() -> py_options:worker([{workers, 1}]) end, "a worker of one's own has no option workers. It has "},
        {fun() -> py_options:stream(none, #{}) end, "options must be a map or a list of pairs, and is not none"},
        {fun() -> py_options:timeout(never) end, "timeout must be milliseconds, 0 to 4294967295, or infinity, and is not never"},
        {fun() -> py:call(math, sqrt, 4) end, "args must be a list, and is not 4"},
        {fun() -> py:call(math, sqrt, [4], [a]) end, "kwargs must be a map or a list of pairs, whose keys are different names"},
        {fun() -> py:stream_cancel(make_ref(), [now]) end, "cancel must be [] or [flush], and is not [now]"},
        {fun() -> py:stream_demand(make_ref(), 0) end, "demand must be a positive integer, and is not 0"},
        {fun() -> py:register_function(f, g) end, "function must be a fun of one argument"},
        {fun() -> py:exec(<<"1">>, #{return => handle}) end, "the option return must be value, and is not handle"},
        {fun() -> py:spawn_call(math, sqrt, [4], #{}, #{return => handle}) end, "return must be value, and is not handle"},
        {fun() -> py:stop_pool(none, #{drian => 1}) end, "py:stop_pool/2 has no option drian. It has drain"},
        {fun() -> py:start_worker(#{}, later) end, "start must be link or monitor, and is not later"}
    ],
    ok = application:set_env(erlang_python, pools, #{default => #{workers => 1}}),
    {ok, _} = application:ensure_all_started(erlang_python),
    try
        [has(Text, printed(Fun)) || {Fun, Text} <- Said]
    after
        application:stop(erlang_python),
        application:unset_env(erlang_python, pools)
    end,
    ok.

%%% What the cases share.

%% What the shell prints.
printed(Fun) ->
    try Fun() of
        Value -> error({no_error, Value})
    catch
        error:Reason:Stack ->
            unicode:characters_to_list(erl_error:format_exception(error, Reason, Stack))
    end.

has(Text, Printed) ->
    ?assertNotEqual(nomatch, string:find(Printed, Text), {Text, Printed}),
    Printed.

explained(Kind) ->
    lists:sort(maps:keys(py_badopt:allowed(Kind))).

%% What the page says that each may be. What it calls calls is code, too.
said(exec) -> maps:merge(said_of(exec), said_of(call));
said(Kind) -> said_of(Kind).

said_of(Kind) -> maps:map(fun(_, Text) -> list_to_binary(Text) end, py_badopt:allowed(Kind)).

page() ->
    {ok, Page} = file:read_file(filename:join(test_program:root(), "docs/options.md")),
    Page.

forms() ->
    {ok, {_, [{abstract_code, {_, Forms}}]}} = beam_lib:chunks(code:which(py_options), [abstract_code]),
    Forms.

%% The options that a function of the module has clauses for.
checked(Forms, Name) ->
    [Clauses] = [Clauses || {function, _, Function, 2, Clauses} <- Forms, Function =:= Name],
    lists:usort([Key || {clause, _, [{atom, _, Key}, _], _, _} <- Clauses]).

fields(Forms, Name) ->
    [Fields] = [Fields || {attribute, _, type, {Type, {type, _, map, Fields}, []}} <- Forms, Type =:= Name],
    [{Key, Value} || {type, _, map_field_assoc, [{atom, _, Key}, Value]} <- Fields].

%% The rows of the table in a section of the page: option, what it may be, default.
rows(Section, Page) ->
    [_, From] = binary:split(Page, <<"\n## ", (list_to_binary(Section))/binary, "\n">>),
    [Text | _] = binary:split(From, <<"\n## ">>),
    {match, Rows} = re:run(Text, "^\\| `(\\w+)` \\| (.*?) \\| (.*?) \\| .* \\|$", [global, multiline, {capture, [1, 2, 3], binary}]),
    [{binary_to_existing_atom(Key), May, Default} || [Key, May, Default] <- Rows].

%% The option, if what is said of its default is so.
says_default(Key, Said, Kind) ->
    Text = unicode:characters_to_list(Said),
    case default(Key, Kind) of
        {ok, Default} -> has(lists:flatten(io_lib:format("`~0p`", [Default])), Text);
        none -> ?assertNotEqual({Key, $`}, {Key, hd(Text)})
    end,
    Key.

%% The number of schedulers is said in words. What requests have is a pool's default, too.
default(workers, pool) -> none;
%% It is the pool that a request finds if it names none.
default(pool, _) -> {ok, default};
default(Key, pool) -> found(Key, maps:merge(py_options:stream(#{}, #{}), py_options:pool(#{})));
default(Key, Kind) -> found(Key, check(Kind, #{})).

found(Key, Defaults) ->
    case Defaults of
        #{Key := Default} -> {ok, Default};
        #{} -> none
    end.

check(Kind, Opts) -> check(Kind, Opts, #{}).

check(pool, Opts, _Pool) -> py_options:pool(Opts);
check(worker, Opts, _Pool) -> py_options:worker(Opts);
check(enumerable, Opts, _Pool) -> py_options:enumerable(Opts);
check(channel, Opts, _Pool) -> py_options:channel(Opts);
check(enumerable_eval, Opts, _Pool) -> py_options:enumerable_eval(Opts);
check(Kind, Opts, Pool) -> py_options:Kind(Opts, Pool).

%% Kind, option, values that it may have, and some that it must not.
options() ->
    Common = [
        {pool, [default, self(), {default, node()}, {default, any}, {default, local_first}], [
            <<"default">>, "default", {self(), any}, {default, "any"}
        ]},
        {timeout, [0, 1, 16#ffffffff, infinity], [-1, 16#100000000, never]},
        {binaries, [str, bytes], [string, <<"str">>]},
        {atoms, [atom, str], [bytes, <<"str">>]},
        {traceback, [true, false], [yes, 1]},
        {metadata, [#{}, #{traceparent => <<"00">>}], [none, []]},
        {output, [user, caller], [self(), standard_error]},
        {profile, ["f", <<"f">>, "ä"], [f, 1, "", <<255>>, [self()], lists:duplicate(65536, $f)]}
    ],
    Window = [{window, [1, ?MOST, auto], [0, -1, infinity]}, {window_bytes, [1, ?MOST], [0, -1, infinity]}],
    Collect =
        Window ++
            [
                {batch, [1, ?MOST], [0, -1, 16#8000000000000000]},
                {take, [1, ?MOST], [0, -1, infinity]},
                {format, [term, msgpack, json], [xml, <<"json">>]}
            ],
    Stream = [{kwargs, [#{}, #{a => 1}, [], [{a, 1}]], [none]}, {owner, [self()], [self, undefined]}, {demand, [0, 1, ?MOST], [-1, infinity]}],
    Pool = [
        {output, [user, caller], [self(), standard_error]},
        {python, ["python3", <<"python3">>], [python3, 3]},
        {venv, ["/v", <<"/v">>, {priv, kernel, "v"}, {app, kernel}], [v, 1, "", {priv, "kernel"}, [0]]},
        {requirements, [[], ["six", <<"six">>], {file, "r.txt"}, {project, {priv, kernel}}], [six, <<"six">>, [six], {file, r}]},
        {python_path, [[], ["/a", <<"/b">>], [{priv, kernel, "python"}, {app, kernel}]], [<<"/a">>, [a], [1], ["/a:b"], [<<"/a:b">>]]},
        {env, [[], [{"A", "1"}, {<<"B">>, <<"2">>}, {"C", false}]], [["A=1"], [{"A=B", "1"}], [{<<>>, "1"}], [{"", false}], [{"A", 1}], [{a, "1"}], [{"A", true}], #{}]},
        {cd, ["/", <<"/">>], [root, 1]},
        {preload, [[], [json, <<"json">>, "json"]], [json, <<"json">>, [1]]},
        {max_streams, [1, ?MOST], [0, -1, infinity]},
        {max_threads, [1, ?MOST], [0, -1, infinity]},
        {thread, [any, main], [all, 1]},
        {memory_limit, [1, ?MOST, infinity], [0, -1, none]},
        {none, [none, nil, undefined], [null, 'None']},
        {binaries, [str, bytes], [string]},
        {atoms, [atom, str], [bytes]},
        {traceback, [true, false], [yes]},
        {allow, [all, [], [json, {json, loads}, {"os.path", <<"join">>}]], [none, json, [1], [{json, 1}], [{a, b, c}]]},
        {interrupt_after, [0, 16#ffffffff, infinity], [-1, 16#100000000, never]},
        {interrupt_grace, [0, 16#ffffffff, infinity], [-1, 16#100000000, never]},
        {kill_after, [0, 16#ffffffff, infinity], [-1, 16#100000000, never]},
        {deaf_after, [1, 16#ffffffff, infinity], [0, -1, 16#100000000, never]},
        {start_timeout, [0, 16#ffffffff, infinity], [-1, 16#100000000, never]},
        {stop_timeout, [0, 16#ffffffff, infinity], [-1, 16#100000000, never]},
        {worker_wait, [0, 16#ffffffff, infinity], [-1, 16#100000000, never]},
        {children, [kill, leave], [stay, <<"kill">>]},
        {caller_functions, [true, false], [yes, all]}
        | Window
    ],
    Recycling = [
        {max_requests, [1, ?MOST, infinity], [0, -1, 16#8000000000000000, never]},
        {max_age, [1, 16#ffffffff, infinity], [0, -1, 16#100000000, never]},
        {max_rss, [1, ?MOST, infinity], [0, -1, 16#8000000000000000, never]},
        {reload, [true, false], [maybe_so, 1]}
    ],
    tagged(stream, Common ++ Collect ++ Stream) ++
        tagged(collect, Common ++ Collect) ++
        tagged(call, [{return, [value, handle], [object, <<"handle">>]} | Common]) ++
        tagged(channel, [
            {owner, [self()], [self, undefined]},
            {notify, [true, false], [yes, 1]},
            {binaries, [str, bytes], [string]},
            {atoms, [atom, str], [bytes]},
            {window, [1, ?MOST], [0, -1, auto, infinity]},
            {window_bytes, [1, ?MOST], [0, -1, infinity]}
        ]) ++
        tagged(exec, [{return, [value], [handle, object]}, {replay, [true, false], [yes]} | Common]) ++
        tagged(pool, Recycling ++ [{workers, [1, 100], [0, -1, infinity]}, {cluster, [true, false], [yes, all]} | Pool]) ++
        tagged(worker, Pool).

tagged(Kind, Options) ->
    [{Kind, Key, Good, Bad} || {Key, Good, Bad} <- Options].
