%% @doc What nobody is to see: the variables of a pool, arguments, results, code. No log record, no
%% report of a supervisor or of a crash, no status of a process and nothing in `py:info/0' has them.
-module(py_secrets_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_testcase/2, end_per_testcase/2]).
-export([log/2]).
-export([reports/1, mail/1, statuses/1, a_reason_without_arguments/1]).

-define(LONG, 10000).
-define(SECRET, "SECRET").

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [reports, mail, statuses, a_reason_without_arguments].

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, all),
    ok = logger:add_handler(?MODULE, ?MODULE, #{level => all, config => self()}),
    Pool = #{workers => 1, env => [{"KEY", ?SECRET ++ "_env"}]},
    ok = application:set_env(erlang_python, pools, #{default => Pool}),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = py:exec(
        "import asyncio\n"
        "password = 'SECRET_code'\n"
        "async def values(*args):\n"
        "    yield 'SECRET_value'\n"
        "    await asyncio.sleep(1000)\n"
        "async def wait(*args):\n"
        "    await asyncio.sleep(1000)\n"
    ),
    [{level, Level} | Config].

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> term().
end_per_testcase(_Case, Config) ->
    application:stop(erlang_python),
    application:unset_env(erlang_python, pools),
    ok = logger:remove_handler(?MODULE),
    ok = logger:set_primary_config(level, proplists:get_value(level, Config)).

%%% Cases.

%% Everything is killed and fails, one after the other.
-spec reports(ct_suite:ct_config()) -> ok.
reports(_Config) ->
    Env = [{"KEY", ?SECRET ++ "_env"}],
    load(),
    {ok, _} = py:start_pool(other, #{workers => 1, env => Env}),
    {error, _} = py:start_pool(wrong, #{workers => 1, env => Env, python => "/bin/false"}),
    {error, _} = py:start_pool(late, #{workers => 1, env => Env, preload => ["import time; time.sleep(60)"], start_timeout => 100}),
    {ok, Mine} = py:start_worker(#{env => Env}),
    unlink(Mine),
    ok = py:cast('__main__', wait, [<<?SECRET "_argument">>], #{}, #{timeout => 1}),
    [Worker] = test_workers:ready(default),
    test_workers:kill(Worker),
    test_eventually:true(fun() -> test_workers:ready(default) -- [Worker] =/= [] end),
    [Next] = test_workers:ready(default),
    exit(Next, boom),
    exit(Next, kill),
    exit(Mine, boom),
    exit(Mine, kill),
    {Manager, _} = py_pool:owner(default),
    exit(Manager, boom),
    exit(Manager, kill),
    test_eventually:true(fun() -> py:eval("1") =:= {ok, 1} end),
    load(),
    [exit(Pid, kill) || {_, Pid, _, _, _} <- ets:tab2list(py_streams)],
    [exit(Pid, kill) || Pid <- library(), Pid =/= whereis(py_sup)],
    test_eventually:true(fun() -> is_pid(whereis(py_pool_sup)) end),
    exit(whereis(py_sup), kill),
    test_eventually:true(fun() -> not lists:keymember(erlang_python, 1, application:which_applications()) end),
    ok = application:set_env(erlang_python, pools, #{default => #{workers => 1, env => Env, python => "/bin/false"}}),
    {error, _} = application:start(erlang_python),
    Events = logged(),
    Texts = [{Level, lists:flatten(io_lib:format("~tp", [Message]))} || #{level := Level, msg := Message} <- Events],
    %% Supervisors, servers and this library have said something.
    [?assert(lists:any(fun({_, Text}) -> string:find(Text, Word) =/= nomatch end, Texts)) || Word <- ["mfargs", "py_pool_manager", "is restarted", "cast failed"]],
    ?assertEqual([], [Text || {_, Text} <- Texts, string:find(Text, ?SECRET) =/= nomatch]).

%% Of a process that fails before it has read its mail.
-spec mail(ct_suite:ct_config()) -> ok.
mail(_Config) ->
    load(),
    Modules = [py_stream, py_async_call, py_channel, py_handle, py_exec_job, py_output, py_delivery, py_worker, py_pool_manager],
    lists:foreach(
        fun(Module) ->
            %% Others may have ended with the one before.
            test_eventually:equal({ok, 1}, fun() -> py:eval("1") end),
            true = fails_with_mail(hd([Pid || Pid <- library(), initial(Pid) =:= Module]))
        end,
        Modules
    ),
    Texts = [lists:flatten(io_lib:format("~tp", [Message])) || #{msg := Message} <- logged()],
    Reported = [Text || Text <- Texts, string:find(Text, "message_queue_len") =/= nomatch],
    ?assert(length(Reported) >= length(Modules)),
    ?assertEqual([], [Text || Text <- Texts, string:find(Text, ?SECRET) =/= nomatch]).

fails_with_mail(Pid) ->
    Monitor = monitor(process, Pid),
    ok = sys:suspend(Pid),
    [Pid ! Mail || Mail <- [{py_event, <<?SECRET "_value">>}, {py_in, ?SECRET "_value", 10}]],
    ok = sys:terminate(Pid, boom),
    receive
        {'DOWN', Monitor, process, Pid, Reason} -> Reason =:= boom
    end.

%% Of every process of the library, whatever it does.
-spec statuses(ct_suite:ct_config()) -> ok.
statuses(_Config) ->
    load(),
    Pids = library(),
    %% Supervisors, servers, a worker with its two, a manager, and what load/0 has started.
    ?assert(length(Pids) >= 17, Pids),
    lists:foreach(
        fun(Pid) ->
            Info = [process_info(Pid, Item) || Item <- [dictionary, current_stacktrace, initial_call, registered_name, message_queue_len]],
            Status = sys:get_status(Pid),
            ?assertEqual({Pid, []}, {Pid, [Shown || Shown <- [Status | Info], is_secret(Shown)]})
        end,
        Pids
    ),
    ?assertNot(is_secret({py:info(), supervisor:which_children(py_pool_sup), supervisor:get_childspec(py_pool_sup, default)})).

%% Where one of them has a bug, its stack has arguments.
-spec a_reason_without_arguments(ct_suite:ct_config()) -> ok.
a_reason_without_arguments(_Config) ->
    Stack = [{m, f, [?SECRET, 1], [{line, 1}]}, {m, g, 2, []}],
    ?assertEqual(
        #{reason => {function_clause, [{m, f, 2, [{line, 1}]}, {m, g, 2, []}]}, log => [], state => {state, hidden}, message => {event, hidden}},
        py_status:without_values(#{
            reason => {function_clause, Stack}, log => [?SECRET], state => {state, ?SECRET}, message => {event, ?SECRET}
        })
    ),
    ?assertEqual(#{reason => {badmatch, [{m, g, 2, []}]}}, py_status:without_values(#{reason => {{badmatch, ?SECRET}, [{m, g, 2, []}]}})),
    ?assertEqual(#{reason => {shutdown, why}}, py_status:without_values(#{reason => {shutdown, why}})).

%%% Helpers.

%% One of each process that has values: streams of all kinds, a call that is awaited, a channel, a handle, code.
load() ->
    Secret = <<?SECRET "_argument">>,
    Starts = [#{}, #{batch => 2}, #{demand => 5}],
    Refs = [Ref || {ok, Ref} <- [py:stream_start('__main__', values, [Secret], Opts) || Opts <- Starts]],
    [{ok, _} = py:stream_next(Ref, ?LONG) || Ref <- Refs],
    _ = spawn(fun() -> py:stream('__main__', values, [Secret]) end),
    _ = py:spawn_call('__main__', wait, [Secret]),
    {ok, In} = py:channel(),
    ok = py:channel_send(In, Secret),
    {ok, _Handle} = py:call(builtins, list, [[Secret]], #{}, #{return => handle}),
    _ = spawn(fun() -> py:exec("late = 'SECRET_code'\nimport time; time.sleep(5)") end),
    test_eventually:true(fun() -> length([P || P <- library(), initial(P) =:= py_exec_job]) =:= 1 end),
    test_eventually:true(fun() -> ets:info(py_streams, size) =:= 4 end).

%% What runs code of the library, but for those who wait in it.
library() ->
    [Pid || Pid <- processes(), Pid =/= self(), is_ours(initial(Pid)), initial(Pid) =/= ?MODULE].

initial(Pid) ->
    try
        {Module, _, _} = proc_lib:translate_initial_call(Pid),
        case Module of
            supervisor -> supervisor(Pid);
            _ -> Module
        end
    catch
        _:_ -> ended
    end.

supervisor(Pid) ->
    case process_info(Pid, registered_name) of
        {registered_name, Name} -> Name;
        _ -> supervisor
    end.

is_ours(Module) -> lists:prefix("py_", atom_to_list(Module)).

is_secret(Term) ->
    %% Text that is a list or a binary.
    string:find(io_lib:format("~tp", [Term]), ?SECRET) =/= nomatch orelse
        binary:match(term_to_binary(Term), <<?SECRET>>) =/= nomatch.

%% @doc Hands on what the node logs.
-spec log(logger:log_event(), logger:handler_config()) -> term().
log(Event, #{config := To}) ->
    To ! {logged, Event}.

logged() ->
    receive
        {logged, Event} -> [Event | logged()]
    after 0 -> []
    end.
