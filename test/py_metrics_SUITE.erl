%% @doc What is counted and measured: counters, the page for Prometheus, events of telemetry.
-module(py_metrics_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([
    counters_of_pools_and_workers/1,
    counters_outlive_workers/1,
    requests_that_wait/1,
    classes_are_bounded/1,
    requests_under_way/1,
    a_page_for_prometheus/1,
    events_of_telemetry/1
]).

-import(test_mine, [call/2, eval/1, exec/1, os_pids/0]).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        counters_of_pools_and_workers,
        counters_outlive_workers,
        requests_that_wait,
        classes_are_bounded,
        requests_under_way,
        a_page_for_prometheus,
        events_of_telemetry
    ].

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    ok = test_mine:start_application(),
    process_flag(trap_exit, true),
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    test_mine:stop_application().

-spec counters_of_pools_and_workers(ct_suite:ct_config()) -> term().
counters_of_pools_and_workers(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    ?assertEqual(
        #{requests => 0, streams => 0, values => 0, bytes => 0, errors => #{}, timeouts => 0, cancels => 0, restarts => #{}, waits => 0},
        counters()
    ),
    {ok, 2} = eval("1 + 1"),
    {ok, [0, 1, 2]} = py:stream(builtins, range, [3], #{}, #{pool => mine}),
    {error, {'ZeroDivisionError', _}} = eval("1 / 0"),
    {error, {'Own', _}} = eval("(_ for _ in ()).throw(type('Own', (Exception,), {})())"),
    {error, timeout} = py:call(time, sleep, [10], #{}, #{pool => mine, timeout => 50}),
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => mine, demand => 1}),
    {ok, 0} = py:stream_next(Ref),
    ok = py:stream_cancel(Ref, [flush]),
    ok = py:await(py:spawn_call(time, sleep, [10], #{}, #{pool => mine}), 50) =:= {error, timeout} andalso ok,
    ok = exec("pass"),
    test_eventually:equal(2, fun() -> maps:get(cancels, counters()) end),
    #{bytes := Bytes} = Counters = counters(),
    ?assertMatch(
        #{
            requests := 8, streams := 2, values := 4, timeouts := 1, cancels := 2,
            errors := #{'ZeroDivisionError' := 1, 'Own' := 1}
        },
        Counters
    ),
    ?assert(Bytes > 50),
    #{workers := [#{counters := Own}]} = py:info(mine),
    ?assertMatch(#{requests := 8, streams := 2, values := 4, errors := 2, timeouts := 1, cancels := 2, bytes := Bytes}, Own).

-spec counters_outlive_workers(ct_suite:ct_config()) -> term().
counters_outlive_workers(_Config) ->
    {ok, Manager} = py:start_pool(mine, #{workers => 1}),
    {ok, 1} = eval("1"),
    {error, {worker_exit, {signal, 9}}} = eval("__import__('os').kill(__import__('os').getpid(), 9)"),
    test_eventually:equal({ok, 1}, fun() -> eval("1") end),
    #{requests := Requests} = counters(),
    ?assert(Requests >= 3),
    ?assertMatch(#{errors := #{worker_exit := _}, restarts := #{{signal, 9} := 1}}, counters()),
    ok = py:restart_workers(mine),
    exit(Manager, kill),
    test_eventually:equal({ok, 1}, fun() -> eval("1") end),
    #{requests := After} = counters(),
    ?assert(After > Requests),
    ok = py:stop_pool(mine),
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    ?assertMatch(#{requests := 0, errors := Errors} when Errors =:= #{}, counters()).

%% For a worker, and in it for a thread, a slot, or the main thread.
-spec requests_that_wait(ct_suite:ct_config()) -> term().
requests_that_wait(_Config) ->
    register(?MODULE, self()),
    load_telemetry(),
    try
        {ok, _} = py:start_pool(mine, #{workers => 1, max_threads => 1}),
        {ok, 1} = eval("1"),
        #{workers := [#{os_pid := OsPid}]} = py:info(mine),
        Streams = [element(2, py:stream_start(itertools, repeat, [7], #{pool => mine, demand => 0})) || _ <- [1, 2, 3]],
        test_eventually:equal(2, fun() -> maps:get(waits, counters()) end),
        [py:stream_cancel(Ref, [flush]) || Ref <- Streams],
        test_os_process:signal(OsPid, "KILL"),
        test_eventually:equal([], fun() -> maps:get(workers, py:info(mine)) end),
        {ok, 1} = eval("1"),
        #{waits := Waits} = counters(),
        ?assert(Waits >= 3),
        Times = [Time || {[erlang_python, call, stop], #{queue_time := Time}, _} <- events([])],
        ?assertMatch([0, Long] when Long > 0, Times),
        {ok, _} = py:start_pool(main, #{workers => 1, thread => main}),
        Calls = [py:spawn_call(time, sleep, [0.1], #{}, #{pool => main}) || _ <- [1, 2, 3]],
        [{ok, none} = py:await(Call) || Call <- Calls],
        test_eventually:equal(2, fun() -> maps:get(waits, maps:get(counters, py:info(main))) end),
        ?assertMatch({_, _}, binary:match(py_prometheus:format(), <<"erlang_python_waits_total{pool=\"main\"} 2">>))
    after
        code:purge(telemetry),
        code:delete(telemetry),
        unregister(?MODULE)
    end.

-spec classes_are_bounded(ct_suite:ct_config()) -> term().
classes_are_bounded(_Config) ->
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    [
        {error, {_, _}} = eval(io_lib:format("(_ for _ in ()).throw(type('Own~b', (Exception,), {})())", [N]))
     || N <- lists:seq(1, 60)
    ],
    #{errors := Errors} = counters(),
    ?assert(map_size(Errors) =< 21),
    ?assertEqual(60, lists:sum(maps:values(Errors))),
    ?assertMatch(#{other := 40}, Errors).

%% What runs is listed with its start, the oldest first; what has ended, or whose caller was killed, is not.
-spec requests_under_way(ct_suite:ct_config()) -> term().
requests_under_way(_Config) ->
    application:set_env(erlang_python, liveness_ms, 100),
    {ok, _} = py:start_pool(mine, #{workers => 1}),
    Before = erlang:system_time(millisecond),
    {ok, Ref} = py:stream_start(itertools, count, [], #{pool => mine, demand => 1}),
    test_eventually:equal(1, fun() -> length(running()) end),
    {Caller, Monitor} = spawn_monitor(fun() -> py:eval("__import__('time').sleep(5)", #{}, #{pool => mine}) end),
    test_eventually:equal(2, fun() -> length(running()) end),
    [#{kind := stream, module := <<"itertools">>, function := <<"count">>, ref := Ref, since := Since}, Call] = running(),
    ?assert(Since >= Before - 1 andalso Since =< erlang:system_time(millisecond)),
    ?assertMatch(#{kind := eval, function := <<"__import__('time').sleep(5)">>, age := Age} when Age >= 100, Call),
    exit(Caller, kill),
    receive
        {'DOWN', Monitor, process, Caller, killed} -> ok
    end,
    ok = py:stream_cancel(Ref, [flush]),
    test_eventually:equal([], fun running/0).

-spec a_page_for_prometheus(ct_suite:ct_config()) -> term().
a_page_for_prometheus(_Config) ->
    {ok, _} = py:start_pool('a "pool"', #{workers => 1}),
    {ok, _} = py:start_pool(mine, #{workers => 2}),
    {ok, 1} = eval("1"),
    {error, _} = eval("1 / 0"),
    Lines = binary:split(py_prometheus:format(), <<"\n">>, [global, trim]),
    [
        ?assert(lists:member(Line, Lines), Line)
     || Line <- [
            <<"# TYPE erlang_python_requests_total counter">>,
            <<"erlang_python_requests_total{pool=\"mine\"} 2">>,
            <<"erlang_python_workers{pool=\"mine\"} 2">>,
            <<"erlang_python_workers{pool=\"a \\\"pool\\\"\"} 1">>,
            <<"erlang_python_errors_total{pool=\"mine\",class=\"ZeroDivisionError\"} 1">>
        ]
    ],
    %% Each line is a comment or a sample, and each name is declared once.
    Sample = "^(# (HELP|TYPE) erlang_python_\\w+ .+|erlang_python_\\w+\\{.*\\} [0-9.]+)$",
    [?assertMatch({match, _}, re:run(Line, Sample), Line) || Line <- Lines],
    Types = [Line || <<"# TYPE", _/binary>> = Line <- Lines],
    ?assertEqual(length(Types), length(lists:usort(Types))).

%% The events are those of the page, each with the keys that it has there.
-spec events_of_telemetry(ct_suite:ct_config()) -> term().
events_of_telemetry(_Config) ->
    register(?MODULE, self()),
    load_telemetry(),
    try
        {ok, _} = py:start_pool(mine, #{workers => 1}),
        {ok, _} = call(os, getpid),
        {error, _} = eval("1 / 0"),
        ok = exec("pass"),
        {ok, [0]} = py:stream(builtins, range, [1], #{}, #{pool => mine}),
        {error, _} = py:stream(builtins, iter, [1], #{}, #{pool => mine}),
        ok = py:restart_workers(mine),
        test_eventually:true(fun() -> lists:keymember([erlang_python, worker, stop], 1, events([])) end),
        [OsPid] = os_pids(),
        test_os_process:signal(OsPid, "KILL"),
        test_eventually:true(fun() -> lists:keymember([erlang_python, worker, exception], 1, events([])) end),
        ok = py:stop_pool(mine),
        Seen = events([]),
        Page = table_of_events(),
        ?assertEqual(lists:sort(maps:keys(Page)), lists:usort([Name || {Name, _, _} <- Seen])),
        [
            ?assertEqual({Name, maps:get(Name, Page)}, {Name, {lists:sort(maps:keys(Measured)), lists:sort(maps:keys(Meta))}})
         || {Name, Measured, Meta} <- Seen
        ],
        Calls = [{Measured, Meta} || {[erlang_python, call, stop], Measured, Meta} <- Seen],
        [{#{duration := Duration}, #{pool := mine, module := <<"os">>, function := <<"getpid">>, kind := call, result := ok}}] =
            [Call || Call = {_, #{function := <<"getpid">>}} <- Calls],
        ?assert(Duration > 0),
        ?assert(lists:any(fun({_, #{kind := Kind}}) -> Kind =:= exec end, Calls)),
        [#{reason := {'ZeroDivisionError', _}, ref := Ref, telemetry_span_context := Ref}] =
            [Meta || {[erlang_python, call, exception], _, Meta} <- Seen]
    after
        code:purge(telemetry),
        code:delete(telemetry),
        unregister(?MODULE)
    end.

%%% Helpers.

%% A telemetry that sends its events to the test.
load_telemetry() ->
    Send = "execute(Event, Measurements, Metadata) -> " ++ atom_to_list(?MODULE) ++ " ! {event, {Event, Measurements, Metadata}}, ok.",
    Forms = [
        begin
            {ok, Tokens, _} = erl_scan:string(Text),
            {ok, Form} = erl_parse:parse_form(Tokens),
            Form
        end
     || Text <- ["-module(telemetry).", "-export([execute/3]).", Send]
    ],
    {ok, telemetry, Code} = compile:forms(Forms),
    {module, telemetry} = code:load_binary(telemetry, "telemetry.beam", Code).

%% All that have come; they stay for the next time.
events(Found) ->
    receive
        {event, Event} -> events([Event | Found])
    after 50 ->
        [self() ! {event, Event} || Event <- lists:reverse(Found)],
        lists:reverse(Found)
    end.

table_of_events() ->
    {ok, Page} = file:read_file(filename:join(test_program:root(), "docs/operations.md")),
    {match, Rows} = re:run(Page, "^\\| `(\\[erlang_python, .*?\\])` \\| (.*?) \\| (.*?) \\|$", [global, multiline, {capture, [1, 2, 3], list}]),
    lists:foldl(
        fun([Name, Measured, Meta], Table) ->
            {ok, Tokens, _} = erl_scan:string(Name ++ "."),
            {ok, Event} = erl_parse:parse_term(Tokens),
            Start = lists:droplast(Event) ++ [start],
            Inherited =
                case Meta of
                    "those of a call" ++ _ -> element(2, maps:get([erlang_python, call, start], Table));
                    "those of start" ++ _ -> element(2, maps:get(Start, Table));
                    _ -> []
                end,
            Table#{Event => {keys(Measured), lists:usort(Inherited ++ keys(Meta))}}
        end,
        #{},
        Rows
    ).

keys(Text) ->
    case re:run(Text, "`(\\w+)`", [global, {capture, [1], list}]) of
        {match, Names} -> lists:usort([list_to_atom(Name) || [Name] <- Names]);
        nomatch -> []
    end.

counters() ->
    maps:get(counters, py:info(mine)).

running() ->
    #{workers := [#{running := Running}]} = py:info(mine),
    Running.
