"""The function words of a language: articles, pronouns, question words, auxiliaries, prepositions, conjunctions.

What they say is grammar, so that a question ("How do I ...?") holds many that its answer doesn't. Closed classes alone,
as they stand between spaces, apostrophes and hyphens (l'eau: l, eau): published lists of stop words hold what people
search for, too ("computer", numbers). Scripts that are searched by pairs of characters have no words to list.
"""

FUNCTION_WORDS: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "ar": """
            في من على إلى عن مع بين عند منذ حتى خلال حول بعد قبل أن إن أنه إنه أنها إنها لأن كأن لكن أو أم ثم بل إذا
            لو لا لم لن ليس ليست ما ماذا لماذا متى أين كيف كم أي أية هل بماذا لمن مما عما فيما بأي هو هي هم هن هما أنا
            نحن أنت أنتم هذا هذه ذلك تلك هؤلاء هنا هناك الذي التي الذين اللذان اللتان اللواتي كان كانت كانوا يكون تكون
            كون قد لقد كل بعض غير فيه فيها منه منها به بها له لها لهم عليه عليها إليه إليها كما يمكن يمكنني يجب سوف تم
            يتم وما ومن وفي وهو وهي
        """,
        "de": """
            der die das den dem des ein eine einen einem einer eines kein keine keinen keinem keiner keines ich mich
            mir du dich dir er ihn ihm sie ihr ihnen es wir uns euch man sich selbst mein meine meinen meinem meiner
            meines dein deine deinen deinem deiner sein seine seinen seinem seiner seines ihre ihren ihrem ihrer ihres
            unser unsere unseren unserem unserer dieser diese dieses diesen diesem jener jene jenes jenen jenem jeder
            jede jedes jeden jedem alle allen aller wer wen wem wessen was wie wo wann warum wieso weshalb wozu wofür
            womit woran worin wodurch woher wohin welcher welche welches welchen welchem wieviel wieviele bin bist ist
            sind seid war waren wäre wären gewesen habe hast hat haben hatte hatten hätte werde wird werden wurde
            wurden würde würden worden kann kannst können könnte konnte muss müssen musste soll sollen sollte darf
            dürfen möchte will wollen und oder aber denn sondern wenn falls ob dass daß weil da als damit während
            obwohl bevor nachdem in im ins an am ans auf aus bei beim bis durch für gegen mit nach ohne seit über um
            unter von vom vor zu zum zur zwischen nicht auch nur noch schon so dann hier dort sehr
        """,
        "en": """
            a an the this that these those some any each every both all no not nor i me my mine myself we us our ours
            you your yours he him his she her hers it its itself they them their theirs one ones someone something
            anyone anything what which who whom whose when where why how whether am is are was were be been being do
            does did doing done have has had having will would shall should can could may might must ought and or but
            if then than so because as while although though of at by for with about against between into through to
            from in on onto out over under up off there here too very just also only such other another s t d ll m re
            ve don doesn didn isn aren wasn weren haven hasn hadn won wouldn shouldn couldn ain
        """,
        "es": """
            el la los las lo un una unos unas al del este esta esto estos estas ese esa eso esos esas aquel aquella
            aquello yo me mi mis mí tú tu tus te ti él ella ello ellos ellas nosotros nos nuestro nuestra nuestros
            nuestras usted ustedes le les se su sus suyo suya alguno alguna algún ninguno ninguna ningún cada todo
            toda todos todas otro otra otros otras qué que quién quien quiénes quienes cuál cual cuáles cuales cómo
            como cuándo cuando dónde donde adónde cuánto cuanto cuánta cuántos cuántas cuyo cuya por porque soy eres
            es somos son era eran fue fueron sea ser sido siendo estoy está están estaba estaban estar he has ha hemos
            han había habían hay haber hubo tiene tienen tener puedo puede pueden podría poder debo debe deben debería
            hacer hago hace hacen y e o u pero sino si aunque mientras pues de a en con sin sobre entre hasta desde
            para contra durante según no ni ya muy más también así
        """,
        "fr": """
            le la les un une des du de au aux l d ce cet cette ces c je j me m moi mon ma mes tu te t toi ton ta tes
            il elle on se s soi son sa ses nous notre nos vous votre vos ils elles leur leurs lui y en eux celui celle
            ceux celles cela ça ceci chaque tout toute tous toutes autre autres quelque quelques aucun aucune que qu
            qui quoi quel quelle quels quelles lequel laquelle lesquels lesquelles dont où quand comment pourquoi
            combien est suis es sommes êtes sont était étaient sera seront soit être été étant ai as a avons avez ont
            avait avaient aura avoir eu peut peux peuvent pouvoir pourrait dois doit doivent devoir faut fait faire
            fais font et ou mais donc car ni or si parce puisque lorsque comme afin à dans par pour avec sans sur sous
            entre vers chez contre pendant depuis dès ne n pas plus très aussi
        """,
        "it": """
            il lo la i gli le l un uno una del dello della dell dei degli delle d al allo alla all ai agli alle dal
            dallo dalla dall dai dagli dalle nel nello nella nell nei negli nelle sul sullo sulla sull sui sugli sulle
            io me mi mio mia miei mie tu te ti tuo tua tuoi tue lui lei egli ella esso essa si sé suo sua suoi sue noi
            ci nostro nostra nostri nostre voi vi vostro vostra loro ne questo questa questi queste quello quella
            quelli quelle quel quei quegli ogni tutto tutta tutti tutte altro altra altri altre qualche alcuni alcune
            nessuno nessuna che chi cui cosa cos quale qual quali come quando dove dov perché quanto quanta quanti
            quante c sono sei è siamo siete era erano fu furono sia siano essere stato stata stati state essendo ho
            hai ha abbiamo avete hanno aveva avevano avere può posso possono potrebbe potere devo deve devono dovrebbe
            fare faccio fa fanno viene vengono e ed o od ma se anche mentre affinché però di a ad da in con su per tra
            fra senza contro durante non né più molto già
        """,
        "nl": """
            de het een t deze dit die dat ik mij me mijn jij je jou jouw u uw hij hem zijn zij ze haar wij we ons onze
            jullie hun hen zich zelf er men iemand iets elk elke ieder iedere alle andere ander geen wie wat welke
            welk waar wanneer waarom hoe hoeveel waarmee waarvoor waarin waarop waaruit ben bent is was waren geweest
            heb hebt heeft hebben had hadden word wordt worden werd werden kan kun kunt kunnen kon konden moet moeten
            moest mag mogen zal zullen zou zouden wil willen doe doet doen en of maar want dus als dan omdat terwijl
            hoewel indien in op aan van voor met bij naar uit om over onder tussen door tegen tot te ten ter sinds
            zonder tijdens per niet ook nog wel al zo hier daar
        """,
        "pl": """
            ten ta to te ci tego tej temu tym tych tymi tę tą ów ja mnie mi mną ty ciebie cię tobie on ona ono oni one
            jego go jemu mu nim niego jej ją nią niej ich im nimi nich my nas nam nami wy was wam się siebie sobie mój
            moja moje mojego swój swoja swoje swojego swoją jakiś jakaś jakieś każdy każda każde wszystko wszystkie
            wszyscy inny inna inne co czego czemu czym kto kogo komu kim który która które którzy którego której
            któremu którym których którą jaki jaka jakie jakiego jakiej jakim jakich jaką kiedy gdzie skąd dokąd jak
            dlaczego ile ilu czy czyj czyja jestem jesteś jest jesteśmy są był była było byli były będzie będą być
            został została zostało zostały zostali mam ma mają miał miała mieć mogę może mogą można móc trzeba należy
            powinien powinna powinno i a oraz lub albo ale lecz więc że żeby aby ponieważ bo gdy jeśli jeżeli choć w
            we z ze na do od o u po za przed przy przez dla bez pod nad między ku podczas nie tak też także już
            jeszcze tylko bardzo
        """,
        "pt": """
            o a os as um uma uns umas ao aos à às do da dos das no na nos nas num numa pelo pela pelos pelas dele dela
            deles delas neste nesta nesse nessa deste desta desse dessa este esta isto estes estas esse essa isso
            esses essas aquele aquela aquilo aqueles aquelas eu me mim meu minha meus minhas tu te ti teu tua você
            vocês ele ela eles elas se si lhe lhes seu sua seus suas nós nosso nossa nossos nossas algum alguma alguns
            algumas nenhum nenhuma cada todo toda todos todas outro outra outros outras que quê quem qual quais como
            quando onde aonde porque porquê quanto quanta quantos quantas cujo cuja sou és é somos são era eram foi
            foram seja ser sido sendo estou está estão estava estavam estar tenho tem têm tinha tinham ter há havia
            haver posso pode podem poderia poder devo deve devem deveria fazer faço faz fazem e ou mas embora enquanto
            pois de em com sem por para sobre entre até desde contra durante após não nem já muito mais também
        """,
        "ru": """
            я меня мне мной ты тебя тебе он его ему им нем нём она её ей ею ней оно мы нас нам нами вы вас вам вами
            они их ими них себя себе собой мой моя моё мои моего моей свой своя своё свои своего своей своих свою наш
            наша наше наши ваш ваша этот эта это эти этого этой этому этим этом этих эту тот та то те того той тому
            тем том тех ту весь вся всё все всех всем каждый каждая каждое другой другая другие что чего чему чем чём
            кто кого кому кем ком какой какая какое какие какого какому каким каком каких какую который которая
            которое которые которого которой которому которым котором которых которую когда где куда откуда как почему
            зачем сколько чей чья чьё чьи ли был была было были быть будет будут есть является являются являлся могу
            может могут можно мог нужно надо следует должен должна должно должны и а но или либо да же бы если чтобы
            потому так хотя пока в во на с со к ко о об обо от до из за у по при про для без над под перед между через
            после не ни нет уже ещё только также тоже очень
        """,
        "tr": """
            bir bu şu o bunun şunun onun bunu şunu onu buna ona bunda onda bundan ondan bunlar onlar bunları onları
            onların ben beni bana benim bende benden sen seni sana senin biz bizi bize bizim siz sizi size sizin kendi
            kendisi her tüm bütün bazı başka diğer hiçbir ne neyi neye nedir neler neden niçin niye nasıl kim kimi
            kime kimin kimdir hangi hangisi hangileri nerede nereye nereden nerededir kaç kaçıncı mi mı mu mü midir
            mıdır mudur müdür dır dir dur dür idi imiş ise iken olan olarak oldu olduğu olur olup olmak oluyor
            olmuştur değil var yok vardır ediyor eden etti etmek edilen edilir ve veya ya da de ile ki ama fakat çünkü
            eğer hem için gibi kadar göre sonra önce üzere karşı doğru üzerinde içinde arasında hakkında daha en çok
        """,
    }.items()
}
