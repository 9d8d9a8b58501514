%% @doc The option `allow': nothing else is called, whatever is tried.
-module(py_allow_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([log/2]).
-export([
    what_is_allowed/1,
    attempts/1,
    casts_are_refused/1,
    submodules/1,
    a_module_by_another_name/1,
    registered_functions/1,
    a_restarted_worker_allows_no_more/1,
    refused_code_waits_nowhere/1,
    code_is_refused/1,
    preloaded_code_is_not/1,
    nothing_allowed/1,
    what_is_no_list/1,
    a_refused_call_imports_nothing/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        what_is_allowed,
        attempts,
        casts_are_refused,
        submodules,
        a_module_by_another_name,
        registered_functions,
        a_restarted_worker_allows_no_more,
        refused_code_waits_nowhere,
        code_is_refused,
        preloaded_code_is_not,
        nothing_allowed,
        what_is_no_list,
        a_refused_call_imports_nothing
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    Own = #{python_path => [?config(data_dir, Config)]},
    Pool = Own#{
        workers => 1,
        allow => [
            offered,
            <<"math">>,
            {named, one},
            {"named", <<"Tools.use">>},
            {named, reexported},
            {offered, 'Offered.static'}
        ]
    },
    ok = application:set_env(erlang_python, pools, #{default => Pool}),
    {ok, _} = application:ensure_all_started(erlang_python),
    [{own, Own} | Config].

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    test_leftovers:none().

%% What a module that is allowed defines, and functions that are allowed by name, are called.
-spec what_is_allowed(ct_suite:ct_config()) -> ok.
what_is_allowed(_Config) ->
    [
        ?assertEqual({M, F, {ok, Result}}, {M, F, py:call(M, F, Args)})
     || {M, F, Args, Result} <- [
            {offered, public, [], <<"public">>},
            {offered, wrapped, [], <<"wrapped">>},
            {offered, 'Offered', [], <<"an instance">>},
            {offered, later, [], <<"later">>},
            {offered, 'Offered.static', [], <<"static">>},
            {math, sqrt, [4], 2.0},
            {named, one, [], <<"one">>},
            {named, 'Tools.use', [], <<"used">>},
            %% As Python's own compiler reads them.
            {<<"ｏffered"/utf8>>, <<"ｐublic"/utf8>>, [], <<"public">>},
            {<<"ｎamed"/utf8>>, <<"ｏne"/utf8>>, [], <<"one">>},
            {offered, <<"µ"/utf8>>, [], <<"mu">>},
            {offered, <<"μ"/utf8>>, [], <<"mu">>}
        ]
    ],
    ?assertEqual({ok, [0, 1, 2]}, py:stream(offered, values, [3])),
    {ok, Ref} = py:stream_start(offered, values, [1]),
    ?assertEqual({ok, 0}, py:stream_next(Ref)),
    ?assertEqual(done, py:stream_next(Ref)),
    ?assertEqual({ok, <<"public">>}, py:await(py:spawn_call(offered, public, []))),
    ?assertMatch({ok, _}, py:call(named, reexported, [])).

%% A table of attempts, each by every way in: none gets through, and none has an effect.
-spec attempts(ct_suite:ct_config()) -> {comment, string()}.
attempts(_Config) ->
    {ok, _} = py:call(offered, what_was_called, []),
    Attempts = table(),
    No = {error, not_allowed},
    [
        begin
            ?assertEqual({M, F, No}, {M, F, py:call(M, F, Args)}),
            ?assertEqual({M, F, No}, {M, F, py:call(M, F, Args, #{x => 1})}),
            ?assertEqual({M, F, No}, {M, F, py:stream(M, F, Args)}),
            ?assertEqual({M, F, No}, {M, F, py:await(py:spawn_call(M, F, Args))}),
            {ok, Ref} = py:stream_start(M, F, Args),
            ?assertEqual({M, F, No}, {M, F, py:stream_next(Ref)})
        end
     || {M, F, Args} <- Attempts
    ],
    ?assertEqual({ok, []}, py:call(offered, what_was_called, [])),
    {comment, integer_to_list(length(Attempts)) ++ " attempts by 5 ways in"}.

table() ->
    [
        %% Modules that are not allowed, and paths into modules.
        {os, system, [<<"true">>]},
        {'os.path', join, [<<"a">>, <<"b">>]},
        {subprocess, run, [[<<"true">>]]},
        {builtins, eval, [<<"1">>]},
        {builtins, exec, [<<"1">>]},
        {builtins, '__import__', [<<"os">>]},
        {builtins, getattr, [<<"a">>, <<"b">>]},
        {importlib, import_module, [<<"os">>]},
        {sys, exit, []},
        {'__main__', public, []},
        {pickle, loads, [{bytes, <<"x">>}]},
        {erlang, send, [<<"name">>, 1]},
        {'erlang_port.requests.targets', 'Targets', []},
        {'offered.os', system, [<<"true">>]},
        {'offered.Offered', static, []},
        {'math.sqrt', '__call__', [4]},
        %% What an allowed module imported, by its own name or another.
        {offered, system, [<<"true">>]},
        {offered, renamed, [<<"true">>]},
        {offered, os, []},
        {offered, functools, []},
        {offered, 'os.system', [<<"true">>]},
        {offered, 'os.path.join', [<<"a">>]},
        {offered, 'subprocess.run', [[<<"true">>]]},
        {offered, shell, [<<"true">>]},
        {offered, 'functools.partial', []},
        %% Private names and dunder attributes.
        {offered, '_private', []},
        {offered, '__dunder__', []},
        {offered, '__getattr__', [<<"os">>]},
        {offered, '__builtins__.eval', [<<"1">>]},
        {offered, '__dict__.get', [<<"system">>]},
        {offered, '__loader__.load_module', []},
        {offered, '__spec__.loader.exec_module', []},
        {offered, 'public.__globals__.get', [<<"system">>]},
        {offered, 'public.__class__', []},
        {offered, 'public.__call__', []},
        {offered, 'wrapped.__wrapped__', []},
        {offered, 'Offered.__subclasses__', []},
        {offered, 'Offered.__init__.__globals__.get', [<<"system">>]},
        {offered, 'Offered.__mro__', []},
        {math, '__loader__.create_module', []},
        %% Attributes of what is allowed, that are not allowed by name.
        {offered, 'Offered.method', [none]},
        {offered, 'Offered.Inner', []},
        {offered, 'table.get', [<<"system">>]},
        {offered, 'instance.__call__', []},
        %% Objects that can be called, bound methods, and what the module makes when it is asked.
        {offered, instance, []},
        {offered, bound, []},
        {offered, changing, [<<"true">>]},
        {offered, 'called.append', [<<"x">>]},
        {offered, data, []},
        {offered, called, []},
        {offered, no_such_name, []},
        %% A module of which only some functions are allowed.
        {named, other, []},
        {named, 'Tools.abuse', []},
        {named, 'Tools', []},
        {named, os, []},
        {named, 'one.__globals__.get', [<<"other">>]},
        {named, 'reexported.__self__.system', [<<"true">>]},
        {named, 'Tools.use.__globals__.get', [<<"other">>]},
        %% Other writings of the same names.
        {<<"OFFERED">>, public, []},
        {offered, <<"Public">>, []},
        {<<"ｏffered"/utf8>>, '_private', []},
        {<<"ｏs"/utf8>>, system, [<<"true">>]},
        {<<"оffered"/utf8>>, public, []},
        {offered, <<"＿private"/utf8>>, []},
        {offered, <<"publiс"/utf8>>, []},
        {<<"ｎamed"/utf8>>, <<"ｏther"/utf8>>, []}
    ].

%% A cast is refused as well, and says so in the log.
-spec casts_are_refused(ct_suite:ct_config()) -> ok.
casts_are_refused(_Config) ->
    {ok, _} = py:call(offered, what_was_called, []),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}),
    Refused = py:format_error(not_allowed),
    try
        [
            begin
                ok = py:cast(M, F, Args),
                receive
                    {log, Reason} -> ?assertEqual({M, F, Refused}, {M, F, Reason})
                end
            end
         || {M, F, Args} <- table()
        ]
    after
        logger:remove_handler(?MODULE)
    end,
    ?assertEqual({ok, []}, py:call(offered, what_was_called, [])).

%% @doc A handler that sends why casts failed to a test.
-spec log(logger:log_event(), logger:handler_config()) -> term().
log(#{msg := {report, #{text := "a py:cast failed", reason := Reason}}}, #{config := To}) ->
    To ! {log, Reason};
log(_Event, _Config) ->
    ok.

%% A package does not bring its submodules with it, nor does a module what lies in it.
-spec submodules(ct_suite:ct_config()) -> ok.
submodules(Config) ->
    Allow = [pack, json, {json, 'decoder.JSONDecoder'}],
    {ok, Worker} = py:start_worker((?config(own, Config))#{allow => Allow}),
    Call = fun(M, F, Args) -> py:call(M, F, Args, #{}, #{pool => Worker}) end,
    ?assertEqual({ok, <<"outer">>}, Call(pack, outer, [])),
    ?assertEqual({ok, [1]}, Call(json, loads, [<<"[1]">>])),
    %% It is called: the result is what Erlang has no type for.
    {error, {'TypeError', Message}} = Call(json, 'decoder.JSONDecoder', []),
    ?assertNotEqual(nomatch, string:find(Message, "JSONDecoder")),
    [
        ?assertEqual({M, F, {error, not_allowed}}, {M, F, Call(M, F, Args)})
     || {M, F, Args} <- [
            {'pack.inner', run, []},
            {pack, 'inner.run', []},
            {pack, inner, []},
            {pack, found, []},
            {pack, 'found.run', []},
            {json, 'codecs.open', [<<"no such file">>]},
            {'json.codecs', open, [<<"no such file">>]},
            {json, 'JSONDecoder', []},
            {'json.decoder', 'JSONDecoder', []},
            {json, 'decoder.scanstring', [<<"a">>, 0]},
            {json, 'decoder.JSONDecoder.decode', [<<"1">>]}
        ]
    ],
    ok = py:stop_worker(Worker).

%% A name for a module that calls itself otherwise allows what that module defines, under
%% this name and no other. What the version is may always be asked.
-spec a_module_by_another_name(ct_suite:ct_config()) -> ok.
a_module_by_another_name(Config) ->
    {ok, Worker} = py:start_worker((?config(own, Config))#{allow => ["os.path"]}),
    Call = fun(M, F, Args) -> py:call(M, F, Args, #{}, #{pool => Worker}) end,
    ?assertEqual({ok, <<"a/b">>}, Call('os.path', join, [<<"a">>, <<"b">>])),
    ?assertEqual({error, not_allowed}, Call(posixpath, join, [<<"a">>, <<"b">>])),
    ?assertEqual({error, not_allowed}, Call(os, 'path.join', [<<"a">>, <<"b">>])),
    ?assertEqual({error, not_allowed}, Call('os.path', 'os.system', [<<"true">>])),
    ?assertEqual({error, not_allowed}, Call('os.path', exists, [<<"from genericpath">>])),
    ok = py:stop_worker(Worker),
    ?assertMatch({ok, <<"3.", _/binary>>}, py:version()).

%% Allowed code may call registered functions, which get no further in Python than anybody
%% else. From outside, such a function has to be allowed by its name.
-spec registered_functions(ct_suite:ct_config()) -> ok.
registered_functions(Config) ->
    Own = ?config(own, Config),
    {ok, Worker} = py:start_worker(Own#{allow => [pack]}),
    Opts = #{pool => Worker},
    ok = py:register_function(called, fun(Args) -> {called, Args} end),
    ok = py:register_function(back, fun([]) -> py:call(os, getpid, [], #{}, Opts) end),
    ?assertEqual({ok, {called, [1]}}, py:call(pack, ask, [called, 1], #{}, Opts)),
    ?assertEqual({ok, {error, not_allowed}}, py:call(pack, ask, [back], #{}, Opts)),
    [
        ?assertEqual({M, F, {error, not_allowed}}, {M, F, py:call(M, F, Args, #{}, Opts)})
     || {M, F, Args} <- [
            {erlang, called, []},
            {erlang, call, [called]},
            {'erlang.calls', call, [called]},
            {pack, 'erlang.call', [called]},
            {pack, 'erlang.called', []}
        ]
    ],
    ok = py:stop_worker(Worker),
    %% The module `erlang' makes up a function for every name, and defines none of them.
    {ok, Whole} = py:start_worker(Own#{allow => [erlang]}),
    ?assertEqual({error, not_allowed}, py:call(erlang, called, [], #{}, #{pool => Whole})),
    ok = py:stop_worker(Whole),
    {ok, Named} = py:start_worker(Own#{allow => [{erlang, called}]}),
    ?assertEqual({ok, {called, [2]}}, py:call(erlang, called, [2], #{}, #{pool => Named})),
    ?assertEqual({error, not_allowed}, py:call(erlang, back, [], #{}, #{pool => Named})),
    ok = py:stop_worker(Named),
    ok = py:unregister_function(called),
    ok = py:unregister_function(back).

%% A worker that takes the place of another one has the same list.
-spec a_restarted_worker_allows_no_more(ct_suite:ct_config()) -> ok.
a_restarted_worker_allows_no_more(Config) ->
    {ok, _} = py:start_pool(listed, (?config(own, Config))#{workers => 1, allow => [pack]}),
    Opts = #{pool => listed},
    ?assertEqual({error, {worker_exit, 7}}, py:call(pack, leave, [], #{}, Opts)),
    test_eventually:equal({ok, <<"outer">>}, fun() -> py:call(pack, outer, [], #{}, Opts) end),
    ?assertEqual({error, not_allowed}, py:call(os, getpid, [], #{}, Opts)),
    ?assertEqual({error, not_allowed}, py:exec("1", Opts)),
    ok = py:stop_pool(listed).

%% Refused code is never kept, where a worker that starts meanwhile would find it: it is
%% refused even while no worker can say so.
-spec refused_code_waits_nowhere(ct_suite:ct_config()) -> ok.
refused_code_waits_nowhere(_Config) ->
    [Worker] = test_workers:ready(default),
    OsPid = test_workers:os_pid(Worker),
    ok = test_os_process:stop(OsPid),
    try
        ?assertEqual({error, not_allowed}, py:exec("import secret", #{timeout => 2000}))
    after
        os:cmd("kill -CONT " ++ OsPid)
    end.

%% Expressions and code are refused by every way in.
-spec code_is_refused(ct_suite:ct_config()) -> ok.
code_is_refused(_Config) ->
    No = {error, not_allowed},
    ?assertEqual(No, py:eval("1")),
    ?assertEqual(No, py:eval("x", #{x => 1})),
    ?assertEqual(No, py:eval("1", #{}, #{traceback => true})),
    ?assertEqual(No, py:stream_eval("[1]")),
    ?assertEqual(No, py:stream_eval("[x]", #{x => 1})),
    ?assertEqual(No, py:exec("x = 1")),
    ?assertEqual(No, py:exec("x = 1", #{replay => false})),
    %% Nor is it kept to be run in a worker that is restarted.
    ?assertMatch(#{journal := 0}, py:info(default)).

%% The pool's own preloaded code runs, and can be allowed.
-spec preloaded_code_is_not(ct_suite:ct_config()) -> ok.
preloaded_code_is_not(Config) ->
    Code = "import os\ndef mine():\n    return 'mine'\n",
    {ok, Worker} = py:start_worker((?config(own, Config))#{
        preload => [Code], allow => ['__main__']
    }),
    Opts = #{pool => Worker},
    ?assertEqual({ok, <<"mine">>}, py:call('__main__', mine, [], #{}, Opts)),
    ?assertEqual({error, not_allowed}, py:call('__main__', 'os.getcwd', [], #{}, Opts)),
    ?assertEqual({error, not_allowed}, py:call('__main__', asyncio, [], #{}, Opts)),
    ?assertEqual({error, not_allowed}, py:eval("mine()", #{}, Opts)),
    ok = py:stop_worker(Worker).

%% An empty list allows nothing.
-spec nothing_allowed(ct_suite:ct_config()) -> ok.
nothing_allowed(Config) ->
    {ok, Worker} = py:start_worker((?config(own, Config))#{allow => []}),
    ?assertEqual({error, not_allowed}, py:call(math, sqrt, [4], #{}, #{pool => Worker})),
    ?assertMatch(#{workers := [#{calls := 0}]}, py:info(Worker)),
    ok = py:stop_worker(Worker).

%% A list that is none is refused when the pool is started, and not taken for `all'.
-spec what_is_no_list(ct_suite:ct_config()) -> ok.
what_is_no_list(_Config) ->
    [
        ?assertError({badopt, {allow, Allow}}, py:start_worker(#{allow => Allow}))
     || Allow <- [none, "math", <<"math">>, [1], [{math}], [{math, sqrt, 1}], math, #{}]
    ],
    ok.

%% A module that is not allowed is not even imported.
-spec a_refused_call_imports_nothing(ct_suite:ct_config()) -> ok.
a_refused_call_imports_nothing(_Config) ->
    {ok, _} = py:call(offered, what_was_called, []),
    ?assertEqual({error, not_allowed}, py:call(secret, function, [])),
    ?assertEqual({ok, []}, py:call(offered, what_was_called, [])).
